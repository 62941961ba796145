//! gRPC from end to end: a real client and server of tonic, with the gateway between them on HTTP/2 at both sides.
#![cfg(test)]

mod support;

use std::convert::Infallible;

use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{AUDIENCE, Gateway, Policy, TestIssuer};
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::{BoxFuture, BoxStream, http};
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The only message: a text.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: impl Into<String>) -> Text {
    Text { text: text.into() }
}

/// The service `test.Echo` with the methods `Unary`, `Server` and `Bidi`, without generated code.
#[derive(Clone)]
struct Echo;

impl UnaryService<Text> for Echo {
    type Response = Text;
    type Future = BoxFuture<Response<Text>, Status>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let who =
            request.metadata().get("x-user").map_or("nobody", |user| user.to_str().unwrap_or("?")).to_owned();
        let wanted = request.into_inner().text;
        Box::pin(async move {
            match wanted.as_str() {
                "fail" => Err(Status::failed_precondition("as you wish")),
                _ => Ok(Response::new(text(format!("{wanted} from {who}")))),
            }
        })
    }
}

impl ServerStreamingService<Text> for Echo {
    type Response = Text;
    type ResponseStream = BoxStream<Text>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let wanted = request.into_inner().text;
        let stream = tokio_stream::iter(0..3).map(move |n| Ok(text(format!("{wanted} {n}"))));
        Box::pin(async move { Ok(Response::new(Box::pin(stream) as Self::ResponseStream)) })
    }
}

impl StreamingService<Text> for Echo {
    type Response = Text;
    type ResponseStream = BoxStream<Text>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Text>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(Box::pin(request.into_inner()) as Self::ResponseStream)) })
    }
}

impl Echo {
    async fn call(
        &self,
        request: http::Request<tonic::body::Body>,
    ) -> Result<http::Response<tonic::body::Body>, Infallible> {
        let mut grpc = Grpc::new(ProstCodec::<Text, Text>::default());
        Ok(match request.uri().path() {
            "/test.Echo/Unary" => grpc.unary(Self, request).await,
            "/test.Echo/Server" => grpc.server_streaming(Self, request).await,
            "/test.Echo/Bidi" => grpc.streaming(Self, request).await,
            _ => Status::unimplemented("no such method").into_http(),
        })
    }
}

const ROUTES: &str = "
- id: echo
  match: { path: '/test.Echo/{method}', methods: [POST] }
  require: { issuers: [corp], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
  forward: { identity_headers: { X-User: sub } }
";

/// The server; gives its URL.
async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                Echo.call(request.map(tonic::body::Body::new)).await
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// The server, the gateway before it, and an issuer.
async fn start() -> (TestIssuer, Gateway) {
    let url = serve().await;
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().upstream("protocol: h2c").routes(&ROUTES.replace("AUDIENCE", AUDIENCE));
    let gateway = Gateway::start(&policy.render(issuer.url(), &url)).await;
    (issuer, gateway)
}

/// A client of the gateway.
struct Caller {
    grpc: tonic::client::Grpc<Channel>,
    token: Option<String>,
}

impl Caller {
    async fn new(gateway: &Gateway, token: Option<String>) -> Self {
        Self::at(format!("http://{}", gateway.address()), token).await
    }

    async fn at(url: String, token: Option<String>) -> Self {
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        Self { grpc: tonic::client::Grpc::new(channel), token }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    async fn unary(&mut self, message: &str) -> Result<String, Status> {
        let request = self.request(text(message));
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Unary");
        self.grpc.ready().await.unwrap();
        let answer = self.grpc.unary(request, path, ProstCodec::<Text, Text>::default());
        Ok(support::soon("an answer", answer).await?.into_inner().text)
    }

    async fn bidi(
        &mut self,
        messages: impl Stream<Item = Text> + Send + 'static,
    ) -> Result<Streaming<Text>, Status> {
        let request = self.request(messages);
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Bidi");
        self.grpc.ready().await.unwrap();
        let answer = self.grpc.streaming(request, path, ProstCodec::<Text, Text>::default());
        Ok(support::soon("an answer", answer).await?.into_inner())
    }
}

#[tokio::test]
async fn client_and_server_understand_each_other_without_the_gateway() {
    let mut caller = Caller::at(serve().await, None).await;
    assert_eq!(caller.unary("hello").await.unwrap(), "hello from nobody");
    let mut back = caller.bidi(tokio_stream::iter([text("a")])).await.unwrap();
    assert_eq!(back.next().await.unwrap().unwrap(), text("a"));
}

#[tokio::test]
async fn a_unary_call_reaches_the_server_with_the_callers_identity() {
    let (issuer, gateway) = start().await;
    let mut caller = Caller::new(&gateway, Some(issuer.token().mint())).await;
    assert_eq!(caller.unary("hello").await.unwrap(), "hello from alice");
    let status = caller.unary("fail").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "as you wish"), "trailers pass");
}

#[tokio::test]
async fn a_server_streams_to_its_end() {
    let (issuer, gateway) = start().await;
    let mut caller = Caller::new(&gateway, Some(issuer.token().mint())).await;
    let request = caller.request(text("n"));
    let path = http::uri::PathAndQuery::from_static("/test.Echo/Server");
    let codec = ProstCodec::<Text, Text>::default();
    caller.grpc.ready().await.unwrap();
    let stream = caller.grpc.server_streaming(request, path, codec).await.unwrap().into_inner();
    let all: Vec<_> = stream.map(|message| message.unwrap().text).collect().await;
    assert_eq!(all, ["n 0", "n 1", "n 2"]);
}

#[tokio::test]
async fn both_sides_stream_at_once() {
    let (issuer, gateway) = start().await;
    let mut caller = Caller::new(&gateway, Some(issuer.token().mint())).await;
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(receive);
    let mut back = caller.bidi(messages).await.unwrap();
    for n in 0..10 {
        send.send(text(n.to_string())).unwrap();
        // Each message comes back before the next one is sent.
        let message = support::soon("an echo", back.next()).await.unwrap().unwrap();
        assert_eq!(message.text, n.to_string());
    }
    drop(send);
    assert!(support::soon("the end", back.next()).await.is_none());
}

#[tokio::test]
async fn a_refusal_is_a_status_that_grpc_clients_understand() {
    let (issuer, gateway) = start().await;
    let narrow = issuer.token().scope("profile").mint();
    let expired = issuer.token().times(-700, -100).mint();
    for (what, token, code, reason) in [
        ("no token", None, Code::Unauthenticated, "credential_missing"),
        ("an expired token", Some(expired), Code::Unauthenticated, "token_expired"),
        ("no scope", Some(narrow), Code::PermissionDenied, "scope_missing"),
    ] {
        let status = Caller::new(&gateway, token).await.unary("hello").await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status:?}");
        let header = status.metadata().get("www-authenticate");
        assert!(header.is_some() || status.message().contains(reason), "{what}: {status:?}");
        gateway.wait_for_log(|entry| entry["reason"] == reason).await;
    }
}
