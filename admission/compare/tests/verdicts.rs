//! The module's verdict does not depend on the host.

use selfhost_compare::{Hosts, cases, empty, fixtures, module};

#[test]
fn two_hosts_and_the_rules_agree() {
    let hosts = Hosts::new(&module().unwrap()).unwrap();
    let cases = cases(&fixtures(), &hosts).unwrap();
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let own = hosts.own(case).unwrap();
        assert_eq!(own, hosts.other(case).unwrap(), "{}", case.name);
        assert_eq!((own.accepted, own.message), hosts.native(case), "{}", case.name);
    }
    // What cannot be read is told by its place in the payload, which is longer than the request.
    let own = hosts.own(&empty()).unwrap();
    assert!(!own.accepted);
    assert_eq!(own, hosts.other(&empty()).unwrap());
}
