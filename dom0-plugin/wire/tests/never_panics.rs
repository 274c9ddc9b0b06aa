//! Whatever bytes arrive, decoding ends in a value or an error.

use drawbridge_wire::auth::Auth;
use drawbridge_wire::call::{Arguments, Function};
use drawbridge_wire::payload::{Encoding, decode};
use drawbridge_wire::xmlrpc::{decode_call, decode_response, decode_value};
use drawbridge_wire::{KeyId, PublicKeyLine};
use proptest::prelude::*;

proptest! {
    #[test]
    fn xml(text in ".{0,300}", tags in prop::collection::vec(
        prop::sample::select(vec![
            "<methodCall>", "</methodCall>", "<methodName>", "</methodName>", "<params>", "</params>", "<param>",
            "</param>", "<value>", "</value>", "<struct>", "</struct>", "<member>", "</member>", "<name>", "</name>",
            "<array>", "<data>", "</data>", "</array>", "<nil/>", "<int>", "</int>", "x", "&amp;", "&#1;", "<![CDATA[",
            "]]>", "<!--", "-->", "<?xml?>", "<!DOCTYPE a>", "\0", "é",
        ]), 0..40)) {
        for document in [text, tags.concat()] {
            let _ = (decode_call(&document), decode_response(&document), decode_value(&document));
        }
    }

    #[test]
    fn arguments(members in prop::collection::vec(
        (prop::sample::select(vec![
            "args", "family", "stdin", "stdin_encoding", "upload", "part", "parts", "sha256", "accept", "generation",
            "auth", "else",
        ]), ".{0,80}"), 0..14)) {
        let members: Vec<(&str, &str)> = members.iter().map(|(k, v)| (*k, v.as_str())).collect();
        for function in Function::ALL {
            let _ = Arguments::read(function, &members);
        }
    }

    #[test]
    fn texts(text in ".{0,200}") {
        let _ = (text.parse::<Auth>(), text.parse::<KeyId>(), text.parse::<PublicKeyLine>());
        let _ = decode(&text, Encoding::ZlibBase64, 1000);
    }

    #[test]
    fn streams(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        if let Ok(decoded) = decode(&text, Encoding::ZlibBase64, 1000) {
            prop_assert!(decoded.len() <= 1000);
        }
    }
}
