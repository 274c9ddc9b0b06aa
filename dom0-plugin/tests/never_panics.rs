//! Whatever bytes an authenticated caller sends, deciding about them ends in a plan or a refusal.

use dom0_plugin::authorise::{Plan, authorise, restore};
use drawbridge_wire::{Family, Function};
use proptest::prelude::*;

/// Words and pieces of words from which lines that are nearly right can be made.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(
        prop::sample::select(vec![
            "*filter\n",
            "*raw\n",
            "COMMIT\n",
            ":dwb-a - [0:0]\n",
            "-A dwb-a",
            "-I dwb-a 1",
            "-D dwb-a 1\n",
            "-F dwb-a\n",
            "-A FORWARD",
            "-F\n",
            " -m",
            " tcp",
            " physdev",
            " --physdev-in",
            " vif+",
            " -s",
            " 10.0.0.0/8",
            " !",
            " -p",
            " -j",
            " ACCEPT",
            " dwb-a",
            " DROP",
            " CONNMARK",
            " --set-xmark",
            " 0x100/0xffffff00",
            " --comment",
            " \"a b\"",
            "\"",
            "\\",
            "'",
            "\n",
            " ",
            "\0",
            "\t",
            "é",
            "-t nat",
            " INPUT",
            " -m comment",
            " --u32",
            " 0=1",
            "cookie=0x4457427200000001",
            ",table=60",
            ",actions=",
            "ct(",
            "commit",
            ")",
            "drop",
            "resubmit(,60)",
            "->",
            "[",
            "]",
            "..",
            "reg0",
            "load:",
            "=",
            ",",
            "/",
        ]),
        0..30,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn input(pieces in pieces(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for input in [pieces.concat().into_bytes(), bytes] {
            for family in [Family::Ipv4, Family::Ipv6] {
                if restore::check(&input, family).is_ok() {
                    let text = std::str::from_utf8(&input).unwrap();
                    prop_assert!(!text.contains("INPUT") && !text.contains("-t nat") && !text.contains('\0'));
                    prop_assert!(!text.contains("-F\n"));
                }
            }
            for args in [["add-flows", "xenbr0", "-"], ["del-flows", "xenbr0", "-"]] {
                let args = args.map(str::to_owned);
                let _ = authorise(Function::OvsOfctl, Family::Ipv4, &args, Some(input.clone()));
            }
        }
    }

    #[test]
    fn arguments(args in prop::collection::vec(prop_oneof![".{0,20}", prop::sample::select(vec![
        "-c", "-t", "filter", "raw", "nat", "--test", "dump-flows", "add-flows", "del-flows", "-", "-O", "OpenFlow13",
        "--bundle", "--strict", "xenbr0", "list-br", "list-ports", "--format=json", "--columns=name", "list", "Port",
        "--db=tcp:x", "--", "cookie=0x4457427200000001", "table=1",
    ]).prop_map(str::to_owned)], 0..7)) {
        for function in Function::ALL {
            for stdin in [None, Some(b"*filter\nCOMMIT\n".to_vec())] {
                if let Ok(Plan::Read(run)) = authorise(function, Family::Ipv4, &args, stdin) {
                    prop_assert!(run.args().iter().all(|arg| !arg.contains("tcp:") && arg != "--"));
                }
            }
        }
    }
}
