//! The parts that all tables of the node part are made of.
//!
//! Invariant: a table is declared as add, delete, add: a left-over of the same name is replaced in one transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use nftables::batch::Batch;
use nftables::expr::{Expression, NamedExpression, Payload, PayloadField};
use nftables::schema::{
    Chain, Element, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
};
use nftables::stmt::{JumpTarget, Match, NAT, NATFamily, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

/// Before kube-proxy's NAT chains (-100, `dstnat`): the first chain that decides wins.
const PRIORITY: i32 = -101;

/// The chain both hooks jump to.
const RULES: &str = "divert";

/// A transaction on one table.
pub(super) struct Transaction {
    table: &'static str,
    batch: Batch<'static>,
}

impl Transaction {
    /// Starts with `table` as it is in the kernel.
    pub(super) fn on(table: &'static str) -> Self {
        Self { table, batch: Batch::new() }
    }

    /// Starts with an empty `table`, whatever was in the kernel.
    pub(super) fn replacing(table: &'static str) -> Self {
        let mut transaction = Self::removing(table);
        transaction.batch.add(table_object(table));
        transaction
    }

    /// Removes `table`, which need not exist.
    pub(super) fn removing(table: &'static str) -> Self {
        let mut transaction = Self::on(table);
        // The add makes the delete succeed when there is none.
        transaction.batch.add(table_object(table));
        transaction.batch.delete(table_object(table));
        transaction
    }

    /// Adds a set of addresses with ports whose elements the kernel drops `timeout` seconds after they were added.
    pub(super) fn set(mut self, name: &'static str, family: IpAddr, timeout: u32) -> Self {
        self.batch.add(NfListObject::Set(Box::new(Set {
            family: NfFamily::INet,
            table: self.table.into(),
            name: name.into(),
            set_type: SetTypeValue::Concatenated(Cow::Owned(vec![
                address_type(family),
                SetType::InetService,
            ])),
            flags: Some(HashSet::from([SetFlag::Timeout])),
            timeout: Some(timeout),
            ..Set::default()
        })));
        self
    }

    /// Adds one rule and the chains that lead there: packets that enter the node and packets that it sends itself.
    pub(super) fn rule(mut self, statements: Vec<Statement<'static>>) -> Self {
        self.batch.add(NfListObject::Chain(self.chain(RULES)));
        self.batch.add(NfListObject::Rule(self.rule_in(RULES, statements)));
        for (name, hook) in [("incoming", NfHook::Prerouting), ("own", NfHook::Output)] {
            self.batch.add(NfListObject::Chain(Chain {
                _type: Some(NfChainType::NAT),
                hook: Some(hook),
                prio: Some(PRIORITY),
                policy: Some(NfChainPolicy::Accept),
                ..self.chain(name)
            }));
            let jump = Statement::Jump(JumpTarget { target: RULES.into() });
            self.batch.add(NfListObject::Rule(self.rule_in(name, vec![jump])));
        }
        self
    }

    /// Adds elements to a set; one that is there already keeps its time.
    pub(super) fn add(mut self, set: &'static str, elements: &[SocketAddr]) -> Self {
        self.batch.add(NfListObject::Element(self.elements(set, elements)));
        self
    }

    /// Deletes elements from a set; they must be there.
    pub(super) fn delete(mut self, set: &'static str, elements: &[SocketAddr]) -> Self {
        self.batch.delete(NfListObject::Element(self.elements(set, elements)));
        self
    }

    /// Deletes the table again.
    pub(super) fn deleting(mut self) -> Self {
        self.batch.delete(table_object(self.table));
        self
    }

    /// The document for nft.
    pub(super) fn document(self) -> Nftables<'static> {
        self.batch.to_nftables()
    }

    fn chain(&self, name: &'static str) -> Chain<'static> {
        Chain { family: NfFamily::INet, table: self.table.into(), name: name.into(), ..Chain::default() }
    }

    fn rule_in(&self, chain: &'static str, statements: Vec<Statement<'static>>) -> Rule<'static> {
        Rule {
            family: NfFamily::INet,
            table: self.table.into(),
            chain: chain.into(),
            expr: statements.into(),
            ..Rule::default()
        }
    }

    fn elements(&self, set: &'static str, elements: &[SocketAddr]) -> Element<'static> {
        let elements: Vec<_> = elements
            .iter()
            .map(|element| concat([address(element.ip()), Expression::Number(element.port().into())]))
            .collect();
        Element { family: NfFamily::INet, table: self.table.into(), name: set.into(), elem: elements.into() }
    }
}

/// Matches when the address in `direction` of the IP header, with the port in `direction` of the TCP header, is in
/// the set.
pub(super) fn matches_set(direction: Direction, family: IpAddr, set: &'static str) -> Statement<'static> {
    let (address, port) = match direction {
        Direction::Source => ("saddr", "sport"),
        Direction::Destination => ("daddr", "dport"),
    };
    matches(
        concat([field(network(family), address), field("tcp", port)]),
        Expression::String(format!("@{set}").into()),
    )
}

/// Matches packets to exactly this address and port.
pub(super) fn matches_destination(to: SocketAddr) -> [Statement<'static>; 2] {
    [
        matches(field(network(to.ip()), "daddr"), address(to.ip())),
        matches(field("tcp", "dport"), Expression::Number(to.port().into())),
    ]
}

/// Sends the connection to another address and port of this node.
///
/// Never `redirect`: for the node's own connections it rewrites to 127.0.0.1, which the kubelet's firewall chain
/// drops.
pub(super) fn dnat(to: SocketAddr) -> Statement<'static> {
    Statement::DNAT(Some(NAT {
        addr: Some(address(to.ip())),
        family: Some(if to.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 }),
        port: Some(Expression::Number(to.port().into())),
        flags: None,
    }))
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Source,
    Destination,
}

fn table_object(name: &'static str) -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: name.into(), handle: None })
}

fn matches(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn concat(parts: [Expression<'static>; 2]) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts.into()))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

fn address(address: IpAddr) -> Expression<'static> {
    Expression::String(address.to_string().into())
}

fn network(family: IpAddr) -> &'static str {
    if family.is_ipv4() { "ip" } else { "ip6" }
}

fn address_type(family: IpAddr) -> SetType {
    if family.is_ipv4() { SetType::Ipv4Addr } else { SetType::Ipv6Addr }
}
