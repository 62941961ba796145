//! What routes change in header fields.

use crate::faults::assert_refused;
use crate::{parse, with};

#[test]
fn fields_let_through_by_name_are_none_that_servers_confuse() {
    let text = with("{ X-User: sub }", "{ X-User: sub }\n      allow_headers: [API_Key, X.Foo]");
    let loaded = parse(&text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.snapshot.routes[0].fields.as_ref().unwrap().allow, ["api_key", "x.foo"]);
    assert!(loaded.snapshot.routes[1].fields.is_none());

    for (name, message) in [
        ("X_User", "some servers read it as `x-user`, which only the gateway sets"),
        ("x.uSER", "some servers read it as `x-user`"),
        ("Content_Length", "some servers read it as `content-length`"),
        ("Transfer_Encoding", "some servers read it as `transfer-encoding`"),
        ("Proxy_Authorization", "some servers read it as `proxy-authorization`"),
        ("X_Forwarded_For", "some servers read it as `x-forwarded-for`"),
        ("X_Forwarded-Anything", "some servers read it as `x-forwarded-anything`"),
        ("X_Real_IP", "some servers read it as `x-real-ip`"),
        ("X_Request_Id", "some servers read it as `x-request-id`"),
        ("X_HTTP_Method_Override", "some servers read it as `x-http-method-override`"),
        ("Remote_User", "some servers read it as `remote-user`"),
        ("If_Match", "some servers read it as `if-match`"),
        ("X-Foo", "need no permission"),
        ("X-Real-IP", "only the gateway may say it"),
        ("Transfer-Encoding", "only the gateway may say it"),
        ("X Foo", "not the name of a header field"),
        ("", "not the name of a header field"),
    ] {
        let to = format!("{{ X-User: sub }}\n      allow_headers: [⟦\"{name}\"]");
        assert_refused(&[("{ X-User: sub }", &to, message)]);
    }
    assert_refused(&[(
        "{ X-User: sub }",
        "{ X-User: sub }\n      allow_headers: [X_Foo, ⟦x_FOO]",
        "`x_FOO` twice",
    )]);
    // The identity header of another route, and the field that tokens come in.
    assert_refused(&[(
        "    public: true\n",
        "    public: true\n    forward: { allow_headers: [⟦X_User] }\n",
        "which only the gateway sets",
    )]);
    let token = with("    algorithms", "    token_header: X-Token\n    algorithms");
    let token =
        token.replace("    public: true\n", "    public: true\n    forward: { allow_headers: [X_Token] }\n");
    assert!(parse(&token).unwrap_err().to_string().contains("some servers read it as `x-token`"));
}
