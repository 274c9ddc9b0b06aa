use super::*;

const AUTH_VALUE: &str = "v1 0123456789abcdef 1790000000 00000000000000000000000000000001 \
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

fn read(function: Function, members: &[(&str, &str)]) -> Result<Arguments, Refusal> {
    let mut all = vec![(AUTH, AUTH_VALUE)];
    all.extend_from_slice(members);
    Arguments::read(function, &all)
}

#[test]
fn functions_have_one_name_each() {
    for function in Function::ALL {
        assert_eq!(function.as_str().parse::<Function>(), Ok(function));
    }
    for name in ["", "iptables", "ip6tables-save", "Iptables-Save", "iptables-save ", "ovs-ofctl\n"] {
        let refusal = name.parse::<Function>().unwrap_err();
        assert_eq!(refusal.code.as_str(), "UNKNOWN_XENAPI_PLUGIN_FUNCTION", "{name:?}");
    }
}

#[test]
fn accepted() {
    let save = read(Function::IptablesSave, &[(ARGS, "")]).unwrap();
    assert_eq!((save.family, save.generation, save.accepts_compressed), (Family::Ipv4, None, false));
    assert!(save.input.is_none());
    let upload = "a".repeat(32);
    let sha256 = "0".repeat(64);
    let part = read(
        Function::OvsOfctl,
        &[
            (ARGS, "x"),
            (STDIN, ""),
            (STDIN_ENCODING, "plain"),
            (UPLOAD, &upload),
            (PART, "2"),
            (PARTS, "64"),
            (SHA256, &sha256),
            (GENERATION, "9223372036854775808"),
        ],
    )
    .unwrap();
    assert_eq!(part.generation, Some(1 << 63));
    assert_eq!(part.input.unwrap().part.map(|p| (p.part, p.parts)), Some((2, 64)));
}

#[test]
fn refused() {
    let upload = "a".repeat(32);
    let sha256 = "0".repeat(64);
    let staged = |part, parts| {
        vec![
            (ARGS, ""),
            (STDIN, "x"),
            (STDIN_ENCODING, "plain"),
            (UPLOAD, upload.as_str()),
            (PART, part),
            (PARTS, parts),
            (SHA256, sha256.as_str()),
        ]
    };
    let cases: Vec<(Code, Vec<(&str, &str)>)> = vec![
        (Code::UnknownKey, vec![(ARGS, ""), ("stdout", "")]),
        (Code::UnknownKey, vec![(ARGS, ""), ("ARGS", "")]),
        (Code::DuplicateKey, vec![(ARGS, ""), (ARGS, "")]),
        (Code::MissingKey, vec![]),
        (Code::MissingKey, vec![(ARGS, ""), (STDIN, "x")]),
        (Code::MissingKey, vec![(ARGS, ""), (STDIN_ENCODING, "plain")]),
        (Code::MissingKey, vec![(ARGS, ""), (SHA256, &sha256)]),
        (Code::MissingKey, staged("1", "2").into_iter().filter(|(k, _)| *k != SHA256).collect()),
        (Code::BadValue, vec![(ARGS, ""), (FAMILY, "inet")]),
        (Code::BadValue, vec![(ARGS, ""), (ACCEPT, "gzip")]),
        (Code::BadValue, vec![(ARGS, ""), (STDIN, "x"), (STDIN_ENCODING, "base64")]),
        (Code::BadValue, vec![(ARGS, ""), (GENERATION, "-1")]),
        (Code::BadValue, vec![(ARGS, ""), (GENERATION, "+1")]),
        (Code::BadValue, vec![(ARGS, ""), (GENERATION, "01")]),
        (Code::BadValue, vec![(ARGS, ""), (GENERATION, "9223372036854775809")]),
        (Code::BadValue, staged("0", "2")),
        (Code::BadValue, staged("3", "2")),
        (Code::BadValue, staged("1", "1")),
        (Code::BadValue, staged("1", "65")),
    ];
    for (code, members) in cases {
        assert_eq!(read(Function::IptablesRestore, &members).unwrap_err().code, code, "{members:?}");
    }
    assert_eq!(Arguments::read(Function::OvsVsctl, &[(ARGS, "")]).unwrap_err().code, Code::Unsigned);
    let family = read(Function::OvsVsctl, &[(ARGS, ""), (FAMILY, "ipv4")]).unwrap_err();
    assert_eq!(family.code, Code::UnknownKey);
}

#[test]
fn auth_has_one_spelling() {
    assert_eq!(AUTH_VALUE.parse::<Auth>().unwrap().to_string(), AUTH_VALUE);
    for bad in [
        String::new(),
        AUTH_VALUE.replace("v1", "v2"),
        AUTH_VALUE.replace(' ', "  "),
        AUTH_VALUE.replace("1790000000", "01790000000"),
        AUTH_VALUE.replace("0123456789abcdef", "0123456789ABCDEF"),
        AUTH_VALUE.replace("==", ""),
        format!("{AUTH_VALUE} x"),
        format!(" {AUTH_VALUE}"),
    ] {
        assert!(bad.parse::<Auth>().is_err(), "{bad}");
    }
}
