use super::*;

fn parse(text: &str) -> Result<PolicyFile, PolicyError> {
    PolicyFile::parse(Path::new("policy.toml"), text)
}

/// The documented sample must be a valid policy.
#[test]
fn the_sample_in_the_docs_is_valid() {
    let docs = include_str!("../../../../docs/policy.md");
    let sample = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = parse(sample).unwrap();
    assert!(!file.policy.groups.is_empty() && !file.ports.is_empty() && !file.policy.provider.is_empty());
}

#[test]
fn each_mistake_is_told_with_its_place() {
    let rule =
        |body: &str| format!("[[group]]\nid = \"g\"\n[[group.rule]]\ndirection = \"ingress\"\n{body}\n");
    for (text, line, words) in [
        ("groups = 3\n".to_owned(), 1, "unknown field"),
        ("[[group]\n".to_owned(), 1, "line 1"),
        ("[[group]]\nid = \"g\"\nfoo = 1\n".to_owned(), 3, "unknown field"),
        ("[[group]]\nid = \"a b\"\n".to_owned(), 2, "only letters"),
        ("[[group]]\nid = \"drawbridge:x\"\n".to_owned(), 2, "the driver's own"),
        ("[[group]]\nid = \"g\"\n[[group]]\nid = \"g\"\n".to_owned(), 4, "stands twice"),
        (rule("protocol = \"tcpx\""), 5, "unknown protocol"),
        (rule("protocol = 300"), 5, "unknown protocol"),
        (rule("protocol = \"tcp\"\nports = \"90-80\""), 6, "reversed"),
        (rule("protocol = \"tcp\"\nports = 0"), 6, "port 0"),
        (rule("protocol = \"tcp\"\nports = 70000"), 6, "no port"),
        (rule("ports = 80"), 3, "ports need a protocol"),
        (rule("protocol = \"vrrp\"\nports = 80"), 3, "has no ports"),
        (rule("remote_cidr = \"10.0.0.0/33\""), 5, "neither an address"),
        (rule("remote_group = \"h\""), 5, "no group h"),
        (rule("remote_set = \"h\""), 5, "no address set h"),
        (rule("remote_cidr = \"::/0\"\nethertype = \"ipv4\""), 5, "ethertype is ipv4"),
        (rule("remote_cidr = \"::/0\"\nremote_group = \"g\""), 3, "only one of"),
        (rule("icmp_code = 3"), 3, "needs an ICMP type"),
        ("[[port]]\nvm = \"a\"\ndevice = 0\naddresses = [\"224.0.0.1\"]\n".to_owned(), 4, "cannot be"),
        ("[[port]]\nvm = \"a\"\ndevice = 0\n[[port]]\nvm = \"a\"\ndevice = 0\n".to_owned(), 4, "already"),
        ("[[port]]\nvm = \"a\"\ndevice = 0\ngroups = [\"g\"]\n".to_owned(), 4, "no group g"),
    ] {
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(&format!("line {line}")), "{text}\n{message}");
        assert!(message.contains(words) && message.contains("column"), "{text}\n{message}");
    }
}

#[test]
fn a_rule_without_family_means_both() {
    let text = "[[group]]\nid=\"g\"\nimplicit_rules=\"default-group\"\n[[group.rule]]\ndirection=\"ingress\"\nprotocol=\"icmp\"\n";
    let file = parse(text).unwrap();
    let rules = &file.policy.groups.values().next().unwrap().rules;
    assert_eq!(rules.len(), 4 + 2);
    assert_ne!(rules[4].service, rules[5].service, "icmp and ipv6-icmp");
}

/// What only a store keeps does not trouble a driver without one.
#[test]
fn what_the_store_keeps_is_understood() {
    let text = "[[project]]\nid=\"acme\"\n[[set]]\nid=\"s\"\nname=\"S\"\naddresses=[]\n[[port]]\nid=\"p\"\n\
        vif=\"5b7ddf0b-7d2b-4c7c-9a5a-7a3c5d4f0c11\"\n[[provider_rule]]\nid=\"b\"\nposition=20\naction=\"deny\"\n\
        direction=\"egress\"\nethertype=\"ipv4\"\n[[provider_rule]]\nid=\"a\"\nposition=5\naction=\"allow\"\n\
        direction=\"egress\"\nethertype=\"ipv4\"\n";
    let file = parse(text).unwrap();
    let order: Vec<_> = file.policy.provider.iter().map(|rule| rule.rule.id.as_str()).collect();
    assert_eq!(order, ["a", "b"]);
    assert!(matches!(file.ports[0].port.target, store::PortTarget::Vif(_)));
    for port in ["vm=\"a\"", "device=0", "vm=\"a\"\ndevice=0\nvif=\"5b7ddf0b\"", ""] {
        let message = parse(&format!("[[port]]\n{port}\n")).unwrap_err().to_string();
        assert!(message.contains("line 1") && message.contains("by vif"), "{message}");
    }
}

#[test]
fn a_place_in_the_document_is_a_line_of_the_file() {
    let text = "[[group]]\nid=\"a\"\n[[group.rule]]\ndirection=\"ingress\"\n[[group.rule]]\n\
        direction=\"ingress\"\nprotocol=\"tcp\"\n[[port]]\nvm=\"a\"\ndevice=0\n";
    let file = PolicyDocument::parse(Path::new("p"), text.to_owned()).unwrap();
    for (pointer, place) in [
        ("/groups/0/project", "p, line 1"),
        ("/groups/0/rules/0", "p, line 3"),
        ("/groups/0/rules/1/ports", "p, line 5"),
        ("/groups/0/rules/1/protocol", "p, line 7"),
        ("/groups/0/rules/9", "p, line 1"),
        ("/ports/0/groups/3", "p, line 8"),
        ("/guarded_networks/0", "p"),
        ("", "p"),
    ] {
        assert_eq!(file.place(pointer), place, "{pointer}");
    }
}
