use proptest::prelude::*;
use serde_json::json;

use super::*;

fn error(text: impl AsRef<[u8]>) -> Option<JsonError> {
    Object::parse(text.as_ref()).err()
}

#[test]
fn members_are_found_by_name_and_path() {
    let object = Object::parse(
        br#" {"b": {"c": [1, "x"]}, "a": null, "https://e.com/t.x": "y", "n": 1.5, "t": true} "#,
    )
    .unwrap();
    assert_eq!(object.get("a"), Some(&Json::Null));
    assert_eq!(object.get("t"), Some(&Json::Bool(true)));
    assert_eq!(object.get("missing"), None);
    let at = |path| object.at(&ClaimPath::parse(path).unwrap());
    assert_eq!(at("b.c").and_then(Json::as_array).map(<[Json]>::len), Some(2));
    assert_eq!(at("https://e.com/t.x").and_then(Json::as_str), Some("y"));
    assert_eq!(at("b.d"), None);
    assert_eq!(at("n.x"), None, "a path does not lead through a number");
}

#[test]
fn dialects_of_json_are_refused() {
    for (text, why) in [
        (&b"\xef\xbb\xbf{}"[..], "a byte order mark"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"{\"a\":\"\xff\"}", "no UTF-8"),
        (b"{\"\xc0\x80\":1}", "an overlong NUL in a name"),
        (br#"{"a":"\ud800"}"#, "a lone surrogate"),
        (br#"{"a":"\udc00\ud800"}"#, "surrogates in the wrong order"),
        (br#"{"a":NaN}"#, "NaN"),
        (br#"{"a":Infinity}"#, "Infinity"),
        (br#"{"a":-Infinity}"#, "-Infinity"),
        (br#"{"a":1e400}"#, "a number out of range"),
        (br#"{"a":01}"#, "a leading zero"),
        (br#"{"a":+1}"#, "a plus sign"),
        (br#"{"a":.5}"#, "no digit before the point"),
        (br#"{"a":0x10}"#, "hex"),
        (br#"{"a":1,}"#, "a trailing comma"),
        (br#"{"a":1/* */}"#, "a comment"),
        (b"{'a':1}", "single quotes"),
        (b"{a:1}", "no quotes"),
        (b"{\"a\":\"\n\"}", "a raw line end in a string"),
        (br#"{"a":1}{"#, "something behind it"),
        (br#"{"a":1} x"#, "text behind it"),
        (b"{\"a\":1}\0", "a NUL behind it"),
        (br#"{"a":1"#, "cut off"),
        (b"", "nothing"),
        (b"  ", "white space"),
        (b"[]", "an array"),
        (b"\"x\"", "a string"),
        (b"null", "null"),
        (b"1", "a number"),
    ] {
        assert!(Object::parse(text).is_err(), "{why}");
    }
}

#[test]
fn a_member_that_stands_twice_is_refused_at_every_depth() {
    for (text, name) in [
        (r#"{"a":1,"a":1}"#, "a"),
        (r#"{"a":1,"\u0061":2}"#, "a"),
        (r#"{"x":{"y":[{"b":1,"c":2,"b":3}]}}"#, "b"),
        (r#"{"":1,"":2}"#, ""),
    ] {
        assert_eq!(error(text), Some(JsonError::DuplicateMember(name.into())), "{text}");
    }
    assert_eq!(error(r#"{"a":{"a":1}}"#), None, "another object's member");
}

#[test]
fn what_a_short_text_can_cost_is_bounded() {
    let nested = |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth - 1) + "{}", "}".repeat(depth - 1));
    assert_eq!(error(nested(16)), None);
    assert_eq!(error(nested(17)), Some(JsonError::TooDeep(16)));
    assert_eq!(error(r#"{"a":"#.repeat(100_000)), Some(JsonError::TooDeep(16)));
    assert_eq!(error(format!(r#"{{"a":{}"#, "[".repeat(100_000))), Some(JsonError::TooDeep(16)));

    let members = |count: usize| {
        let members: Vec<_> = (0..count).map(|i| format!(r#""m{i}":0"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(error(members(100)), None);
    assert_eq!(error(members(101)), Some(JsonError::TooManyMembers(100)));
    assert_eq!(error(format!(r#"{{"x":{}}}"#, members(500))), None, "an inner object may have more");

    let items = |count: usize| format!(r#"{{"a":[{}]}}"#, vec!["0"; count].join(","));
    assert_eq!(error(items(1_998)), None);
    assert_eq!(error(items(1_999)), Some(JsonError::TooManyValues(2_000)));
}

#[test]
fn an_error_holds_no_value() {
    for text in [r#"{"a":"secret","a":"secret"}"#, r#"{"a":"secret"#, r#"{"a":secret}"#, r#"["secret"]"#] {
        let error = error(text).unwrap();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "n".repeat(1_000));
    assert!(error(long).unwrap().to_string().len() < 100);
}

#[test]
fn numbers_keep_their_type() {
    let object = Object::parse(br#"{"i":1,"f":1.0,"big":18446744073709551616}"#).unwrap();
    assert_ne!(object.get("i"), object.get("f"));
    assert_eq!(object.get("i"), Some(&Json::from(json!(1))));
    assert!(matches!(object.get("big"), Some(Json::Number(n)) if n.is_f64()));
}

#[test]
fn equality_does_not_look_at_the_order_of_members() {
    let a = Object::parse(br#"{"a":1,"b":{"c":1,"d":2}}"#).unwrap();
    let b = Object::parse(br#"{"b":{"d":2,"c":1},"a":1}"#).unwrap();
    assert_eq!(a, b);
    let configured = Json::from(json!({"b": {"d": 2, "c": 1}, "a": 1}));
    assert_eq!(configured.as_object(), Some(&a));
}

#[test]
fn weight_grows_with_what_is_held() {
    let small = Object::parse(br#"{"a":"b"}"#).unwrap().weight();
    let large = Object::parse(format!(r#"{{"a":["{}"]}}"#, "b".repeat(1_000)).as_bytes()).unwrap().weight();
    assert!(small > 2 && large > small + 999, "{small} {large}");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(".{0,8}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Object::parse(&text);
    }

    #[test]
    fn what_serde_writes_is_read_back(value in value()) {
        let text = json!({"v": value}).to_string();
        let object = Object::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(Value::from(object.get("v").unwrap()), value);
    }

    #[test]
    fn what_is_accepted_here_serde_accepts_too(text in r#"[\[\]{}":,a0-9 .eE+\\u-]{0,40}"#) {
        if Object::parse(text.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok());
        }
    }
}
