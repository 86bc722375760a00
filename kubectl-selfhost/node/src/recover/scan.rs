//! Single values out of a file in YAML or JSON, without a parser.
//!
//! A parser of YAML would make this program larger by a quarter. What is looked for here are an image, a flag and
//! keys, each in its line in whatever style, and each is checked by its use: an image is shown, an address parsed, and
//! a key that is none opens nothing.

/// The values of `key: value`, `"key": "value"` and `{key: value}`.
pub(super) fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    after(text, key).filter_map(|rest| {
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        let rest = rest.strip_prefix(':')?;
        first_word(rest.trim_start_matches([' ', '\t']))
    })
}

/// The value of the flag `--name=value` of a command line in a manifest; the last one counts.
pub(crate) fn flag<'a>(text: &'a str, name: &'a str) -> Option<&'a str> {
    let values = after(text, name).filter_map(|rest| first_word(rest.strip_prefix('=')?));
    values.last()
}

/// What follows each whole word `word`.
fn after<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let is_whole = before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-'));
        is_whole.then_some(&text[at + word.len()..])
    })
}

/// The word at the beginning of a text, without the quotes around it.
fn first_word(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(['"', '\'']);
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}' | ']');
    text.split(ends).next().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_every_style() {
        for text in [
            "providers:\n- aescbc:\n    keys:\n    - name: a\n      secret: QUJD\n    - name: b\n      secret: \"REVG\"\n",
            "keys: [{name: a, secret: QUJD}, {secret: 'REVG', name: b}]",
            r#"{"keys":[{"name":"a","secret":"QUJD"},{"name":"b","secret" : "REVG"}]}"#,
            "resources: [secrets]\nsecret: QUJD # the first\nmy-secret: no\nsecret:REVG\nsecret:\n",
        ] {
            assert_eq!(values(text, "secret").collect::<Vec<_>>(), ["QUJD", "REVG"], "{text}");
        }
    }

    #[test]
    fn flags_of_a_manifest() {
        let yaml = "metadata:\n  annotations:\n    x/kube-apiserver.advertise-address.endpoint: 10.0.0.9:6443\nspec:\n  \
                    containers:\n  - command:\n    - kube-apiserver\n    - --advertise-address=10.0.0.1\n    - \
                    --etcd-servers=https://127.0.0.1:2379\n    image: registry.k8s.io/kube-apiserver:v1.36.3\n    \
                    imagePullPolicy: IfNotPresent\n";
        let json = r#"{"command": ["kube-apiserver","--advertise-address=10.0.0.1"], "image":"registry.k8s.io/kube-apiserver:v1.36.3"}"#;
        for text in [yaml, json] {
            assert_eq!(flag(text, "--advertise-address"), Some("10.0.0.1"), "{text}");
            assert_eq!(flag(text, "--advertise"), None, "{text}");
            assert_eq!(values(text, "image").collect::<Vec<_>>(), ["registry.k8s.io/kube-apiserver:v1.36.3"]);
        }
        assert_eq!(flag("--a=1 --a=2", "--a"), Some("2"));
        assert_eq!(flag("--a= --b", "--a"), None);
    }
}
