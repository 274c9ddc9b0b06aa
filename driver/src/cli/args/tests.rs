use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = shell_words::split(line).unwrap();
    Arguments::try_parse_from(std::iter::once("drawbridge".to_owned()).chain(words))
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn what_may_be_typed() {
    for line in [
        "plan",
        "plan -f policy.toml --json",
        "apply --policy policy.toml --prune",
        "--config driver.toml --json apply --policy policy.toml",
        "export",
        "explain --from a --to 'b#1' tcp/22 --live -f policy.toml",
        "hook create web-1",
        "hook create web-1 --policy policy.toml",
        "hook terminate web-1 --deadline 60",
        "hook pre-migrate web-1 xen2",
        "hook host-init xen1 -f policy.toml",
        "status --json",
        "watch --count 3",
        "project create acme --name Acme --default-group acme-default",
        "project set acme --description ''",
        "group create",
        "group create web --project acme --on-rule-removal keep --implicit-rules none",
        "group edit web --name Web --revision 7",
        "group delete web --revision 7",
        "rule create web ingress --protocol tcp --ports 80-81 --remote-cidr 10.0.0.0/8",
        "rule create web ingress --ethertype ipv4 --protocol icmp --icmp-type 8 --icmp-code 0 --remote-group db",
        "rule edit r1 --direction egress --protocol any --ports any --icmp-type any --remote-any",
        "set create mon --address 192.0.2.1,192.0.2.2 --address 2001:db8::/64",
        "set set mon --add-address 192.0.2.3 --remove-address 192.0.2.1",
        "set edit mon --no-addresses",
        "port create --vm web-1 --device 0 --group web --address 10.0.0.1 --pair 10.0.0.9@00:16:3e:00:00:01",
        "port create p1 --vif 5b7ddf0b --port-security false",
        "port edit web-1#0 --add-group db --no-project --no-pairs --port-security true",
        "port list --project acme --group web --vm web-1",
        "port list --state quarantined",
        "provider-rule create deny egress --position 5 --ethertype ipv4 --protocol tcp --ports 25",
        "provider-rule edit r1 --action allow --position 7",
        "network guard tenants",
        "network create tenants",
        "network unguard tenants",
        "host list",
        "host show xen1",
        "refresh rules web",
        "refresh members web --json",
        "adopt",
        "audit --after 7 --limit 10",
        "serve",
        "keygen --out key",
        "call xen1 iptables-save --family ipv6 -- -t filter",
        "completions zsh",
        "man target/man",
        "status --api https://driver:7443 --token-file t --ca-file c",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}\n{error}");
        }
    }
}

#[test]
fn what_may_not() {
    for (line, words) in [
        ("", "Usage"),
        ("hook", "Usage"),
        ("hook destroy web-1", "unrecognized subcommand"),
        ("hook create", "<VM>"),
        ("hook create web-1 --deadline 0", "1..=600"),
        ("hook pre-migrate web-1", "<HOST>"),
        ("rule create web", "<DIRECTION>"),
        ("rule create web up", "ingress"),
        ("rule create web ingress --ethertype ipv5", "ipv4"),
        ("rule create web ingress --icmp-type 256", "neither 0 to 255 nor any"),
        ("rule create web ingress --remote-any --remote-set s", "cannot be used with"),
        ("group edit web --project other", "unexpected argument"),
        ("group create --on-rule-removal forget", "keep"),
        ("group edit web --revision x", "invalid"),
        ("port create --vm web-1", "--device"),
        ("port create --vm web-1 --device 0 --vif v", "cannot be used with"),
        ("port edit p --group a --no-groups", "cannot be used with"),
        ("port edit p --port-security maybe", "true"),
        ("port list --state odd", "quarantined"),
        ("provider-rule create drop egress", "allow"),
        ("set edit s --address a --no-addresses", "cannot be used with"),
        ("refresh everything web", "members"),
        ("explain --from a --to b tcp", "is no packet"),
        ("completions", "<SHELL>"),
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} was taken")).to_string();
        assert!(error.contains(words), "{line}\n{error}");
    }
}

/// Whoever types nothing about a list leaves it as it is: that is another thing than an empty one.
#[test]
fn nothing_is_not_empty() {
    let address = |line| match parse(line).unwrap().command {
        Command::Set(set::Command::Edit(edit)) => format!("{edit:?}"),
        other => panic!("{other:?}"),
    };
    assert!(address("set edit s").contains("address: None"));
    assert!(address("set edit s --address 10.0.0.1").contains("address: Some"));
}

/// Whoever is told to say `drawbridge …` can say it: in what the driver says, in its help, and in the documents.
#[test]
fn commands_that_are_told_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut told = Vec::new();
    for folder in ["driver", "docs", "packaging"] {
        collect(&root.join(folder), &mut told);
    }
    collect(&root.join("README.md"), &mut told);
    assert!(told.len() > 40, "{told:?}");
    let mut program = Arguments::command();
    program.build();
    for line in told {
        let mut command = &program;
        for word in line.split_whitespace().take_while(|word| *word != "--") {
            if let Some(long) = word.strip_prefix("--") {
                let is_known = command.get_arguments().any(|argument| argument.get_long() == Some(long));
                assert!(is_known, "drawbridge {line}: no --{long}");
            } else if let Some(found) = command.find_subcommand(word) {
                command = found;
            } else {
                let is_a_name =
                    !word.chars().all(|c| c.is_ascii_lowercase() || c == '-') || word.starts_with('-');
                assert!(is_a_name || !command.has_subcommands(), "drawbridge {line}: no {word}");
            }
        }
    }
}

/// What stands in backticks behind `drawbridge`.
fn collect(path: &std::path::Path, told: &mut Vec<String>) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.for_each(|entry| collect(&entry, told));
        return;
    }
    let is_text =
        path.extension().is_some_and(|end| ["rs", "md", "service", "toml"].iter().any(|it| end == *it));
    if !is_text || path.ends_with("args/tests.rs") {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    // A Rust string goes on behind the end of its line.
    let text = text.replace("\\\n", " ");
    // `drawbridge boot` is the plugin's, which goes by the same name in dom0.
    let lines =
        text.split("`drawbridge ").skip(1).filter_map(|rest| Some(rest.split_once('`')?.0.to_owned()));
    told.extend(lines.filter(|line| !line.starts_with("boot") && !line.contains('\n')));
}
