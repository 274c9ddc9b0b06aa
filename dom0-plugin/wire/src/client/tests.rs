use super::*;
use crate::call::Arguments;

const HOST: &str = "0f4ad2f6-3a9c-4bd9-a4a2-3a7b1d9f1c11";
const NOW: u64 = 1_790_000_000;

fn signer() -> Signer {
    let (private, _) = generate_keypair().unwrap();
    Signer::from_private_key(private.expose()).unwrap()
}

fn invocation(stdin: Option<&[u8]>) -> Invocation {
    Invocation {
        function: Function::IptablesRestore,
        args: vec!["--test".to_owned()],
        family: Family::Ipv6,
        stdin: stdin.map(<[u8]>::to_vec),
        generation: Some(7),
    }
}

fn pairs(arguments: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    arguments.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn is_signed(
    arguments: &BTreeMap<String, String>,
    host_uuid: &str,
    function: Function,
    key: &PublicKey,
) -> bool {
    let pairs = pairs(arguments);
    let read = Arguments::read(function, &pairs).unwrap();
    Signed { host_uuid, function, arguments: &pairs }.verify(&read.auth, key)
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| step()).collect()
}

#[test]
fn a_private_key_is_never_shown() {
    let (private, line) = generate_keypair().unwrap();
    let signer = Signer::from_private_key(private.expose()).unwrap();
    assert_eq!(signer.public_key(), line.key);
    let secret = private.expose().split_once(' ').unwrap().1.trim();
    let error = Signer::from_private_key(&format!("{secret}\n")).unwrap_err();
    for shown in
        [format!("{private:?}"), format!("{signer:?}"), format!("{error} {error:?}"), line.to_string()]
    {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn one_signed_call() {
    let signer = signer();
    let calls = signed_calls(&invocation(Some(b"*filter\nCOMMIT\n")), &signer, HOST, NOW).unwrap();
    assert_eq!(calls.len(), 1);
    let read = Arguments::read(Function::IptablesRestore, &pairs(&calls[0])).unwrap();
    assert_eq!((read.args.as_str(), read.family, read.generation), ("--test", Family::Ipv6, Some(7)));
    assert!(read.accepts_compressed);
    let input = read.input.unwrap();
    let decoded = payload::decode(&input.text, input.encoding, 100).unwrap();
    assert_eq!(decoded, b"*filter\nCOMMIT\n");
    assert!(is_signed(&calls[0], HOST, Function::IptablesRestore, &signer.public_key()));
}

#[test]
fn a_signature_binds_everything() {
    let signer = signer();
    let call = signed_calls(&invocation(Some(b"x")), &signer, HOST, NOW).unwrap().remove(0);
    let key = signer.public_key();
    let restore = Function::IptablesRestore;
    assert!(!is_signed(&call, "0f4ad2f6-3a9c-4bd9-a4a2-3a7b1d9f1c12", restore, &key));
    assert!(!is_signed(&call, HOST, Function::IptablesSave, &key));
    assert!(!is_signed(&call, HOST, restore, &self::signer().public_key()));
    for (key_name, value) in [("args", ""), ("family", "ipv4"), ("stdin", "y"), ("generation", "8")] {
        let mut changed = call.clone();
        changed.insert(key_name.to_owned(), value.to_owned());
        assert!(!is_signed(&changed, HOST, restore, &key), "{key_name}");
    }
    for gone in ["accept", "generation", "family"] {
        let mut changed = call.clone();
        changed.remove(gone);
        assert!(!is_signed(&changed, HOST, restore, &key), "{gone}");
    }
    let words: Vec<&str> = call["auth"].split(' ').collect();
    let later = format!("v1 {} {} {} {}", words[1], NOW + 1, words[3], words[4]);
    let other_nonce = format!("v1 {} {} {} {}", words[1], words[2], "0".repeat(32), words[4]);
    for auth in [later, other_nonce] {
        let mut changed = call.clone();
        changed.insert("auth".to_owned(), auth);
        assert!(!is_signed(&changed, HOST, restore, &key));
    }
}

#[test]
fn large_input_is_staged_and_every_part_fits() {
    let signer = signer();
    let key = signer.public_key();
    for (bytes, staged) in
        [(90_000, false), (98_000, true), (130_000, true), (400_000, true), (5_000_000, true)]
    {
        let input = noise(bytes);
        let calls = signed_calls(&invocation(Some(&input)), &signer, HOST, NOW).unwrap();
        let mut joined = String::new();
        let mut nonces = std::collections::HashSet::new();
        for (at, call) in calls.iter().enumerate() {
            assert!(argv_bytes(Function::IptablesRestore, call) <= limits::ARGV_BYTES);
            assert!(is_signed(call, HOST, Function::IptablesRestore, &key));
            let read = Arguments::read(Function::IptablesRestore, &pairs(call)).unwrap();
            assert!(nonces.insert(read.auth.nonce.to_string()));
            let input = read.input.unwrap();
            joined.push_str(&input.text);
            if calls.len() > 1 {
                let part = input.part.unwrap();
                assert_eq!((part.part as usize, part.parts as usize), (at + 1, calls.len()));
                assert_eq!(part.is_last(), at + 1 == calls.len());
            }
        }
        assert_eq!(calls.len() > 1, staged, "{bytes}");
        assert_eq!(payload::decode(&joined, Encoding::ZlibBase64, bytes).unwrap(), input);
        if let Some(sha256) = calls[0].get(call::SHA256) {
            assert_eq!(*sha256, hex::encode(&hmac_sha256::Hash::hash(joined.as_bytes())));
        }
    }
    // 400 KB of rules compress well enough for one call; the same bytes as noise need several.
    let rules = "-A dwb-o-vif1.0 -p tcp --dport 22 -j ACCEPT\n".repeat(9_000);
    assert_eq!(signed_calls(&invocation(Some(rules.as_bytes())), &signer, HOST, NOW).unwrap().len(), 1);
}

#[test]
fn what_xapi_would_change_never_goes_plain() {
    for text in ["a\r\n", "a\u{1}b", " a", "a\n", "\t", "\u{85}"] {
        assert_eq!(plain(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(plain(b"\xff"), None);
    assert_eq!(plain(b"a\nb\tc"), Some("a\nb\tc"));
    assert_eq!(plain(b""), Some(""));
}

#[test]
fn refusals() {
    let signer = signer();
    let too_large = vec![b'a'; limits::INPUT_BYTES + 1];
    let error = signed_calls(&invocation(Some(&too_large)), &signer, HOST, NOW).unwrap_err();
    assert!(matches!(error, EncodeError::InputTooLarge(_)), "{error}");
    let mut odd = invocation(None);
    odd.args = vec!["-t".to_owned(), "fil\nter".to_owned()];
    let error = signed_calls(&odd, &signer, HOST, NOW).unwrap_err();
    assert!(matches!(error, EncodeError::ControlCharacter(2)), "{error}");
    odd.args = vec!["a".repeat(200_000)];
    for stdin in [None, Some(b"x".to_vec())] {
        odd.stdin = stdin;
        let error = signed_calls(&odd, &signer, HOST, NOW).unwrap_err();
        assert!(matches!(error, EncodeError::ArgumentsTooLarge | EncodeError::InputTooLarge(0)), "{error}");
    }
}

/// A fixed signature, so that a change of the canonical text cannot go unnoticed: hosts and drivers are not updated in
/// the same moment. Anybody's Ed25519 can check it, over the SHA-256 of the text in [`crate::auth`]'s documentation.
#[test]
fn the_canonical_text_does_not_change() {
    let seed = "drawbridge-ed25519-private-key nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n";
    let signer = Signer::from_private_key(seed).unwrap();
    let mut arguments = BTreeMap::from([
        ("args", "--test"),
        ("family", "ipv4"),
        ("stdin", "é\n"),
        ("stdin_encoding", "plain"),
    ])
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    signer.sign(HOST, Function::IptablesRestore, &mut arguments, NOW, Nonce([1; 16]));
    let text = format!(
        "drawbridge-call v1\nhost {HOST}\nfunction iptables-restore\ntime {NOW}\nnonce {}\nargs 6\n--test\nfamily 4\nipv4\n\
         stdin 3\né\n\nstdin_encoding 5\nplain\n",
        "01".repeat(16)
    );
    let auth = &arguments["auth"];
    let signature = signer.0.sk.sign(hmac_sha256::Hash::hash(text.as_bytes()), None);
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(signature.as_ref());
    assert_eq!(*auth, format!("v1 21fe31dfa154a261 {NOW} {} {encoded}", "01".repeat(16)));
}
