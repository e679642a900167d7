//! An HTTP/2 connection that carries prebuilt gRPC messages, with nothing in between.
//!
//! The generated client passes each call through a queue, a stack of layers and the encoder, which costs the machine as
//! much as the server's own work on a small search. Here a call is a clone of a prepared head and a slice of bytes.

use std::future::poll_fn;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use vectron_embedding::port::PortOptions;

use super::BenchError;
use super::messages::Messages;

/// Bytes that wait in the client for the connection to take them: a window's worth.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    authority: Authority,
}

impl Endpoint {
    /// From `http://host:port`.
    pub fn parse(url: &str) -> Result<Self, BenchError> {
        let expected = || format!("{url}: expected http://host:port");
        let uri: Uri = url.parse().map_err(|_| expected())?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(expected().into());
        }
        let authority = uri.authority().filter(|authority| authority.port().is_some()).ok_or_else(expected)?;
        Ok(Self { authority: authority.clone() })
    }

    /// As a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority)
    }
}

/// A method of `VectorService`, as a prepared request head.
#[derive(Clone)]
pub struct Call {
    uri: Uri,
    headers: HeaderMap,
}

impl Call {
    /// A method by its name in the contract, such as `Search`.
    pub fn new(endpoint: &Endpoint, method: &'static str) -> Self {
        let path = format!("/vectron.v1.VectorService/{method}");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(endpoint.authority.clone());
        parts.path_and_query = Some(PathAndQuery::try_from(path).expect("a method's name is a valid path"));
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Self { uri: Uri::from_parts(parts).expect("all parts are there"), headers }
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
}

impl Connection {
    /// Connects. The connection is driven by a task of the runtime that this is called on.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, BenchError> {
        let unreachable = |error: &dyn std::fmt::Display| format!("{}: {error}", endpoint.url());
        let stream = TcpStream::connect(endpoint.authority.as_str()).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true)?;
        // The same windows as the server's: neither side then waits for the other.
        let PortOptions { stream_window_bytes, connection_window_bytes, streams_max, .. } = PortOptions::default();
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(stream_window_bytes)
            .initial_connection_window_size(connection_window_bytes)
            .initial_max_send_streams(streams_max as usize)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| unreachable(&error))?;
        // Whoever uses the connection is told of its end by the calls that fail.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// One unary call: a message with its prefix → the answer's message.
    pub async fn unary(&mut self, call: &Call, message: Bytes) -> Result<Bytes, BenchError> {
        let (mut sending, mut receiving) = self.open_call(call).await?;
        sending.send_data(message, true)?;
        let answer = receiving.message().await?;
        let answer = answer.ok_or("the server ended a call without an answer")?;
        match receiving.message().await? {
            None => Ok(answer),
            Some(_) => Err("the server answered one call twice".into()),
        }
    }

    /// Begins a call: what the client sends, and what the server does.
    pub async fn open_call(&mut self, call: &Call) -> Result<(SendStream<Bytes>, Receiving), BenchError> {
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        let (response, sending) = self.sender.send_request(call.request(), false)?;
        Ok((sending, Receiving { from: From::Head(response), messages: Messages::default() }))
    }
}

/// What the server sends on one call.
pub struct Receiving {
    from: From,
    messages: Messages,
}

/// A server may wait for the first message before it sends the head of its answer.
enum From {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Receiving {
    /// Waits for the next message; `None` where the server has ended the call with OK. Loses nothing where the wait is
    /// given up.
    pub async fn message(&mut self) -> Result<Option<Bytes>, BenchError> {
        loop {
            if let Some(message) = self.messages.next()? {
                return Ok(Some(message));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// The next message that is here already.
    pub fn arrived(&mut self) -> Result<Option<Bytes>, BenchError> {
        self.messages.next()
    }

    /// Waits until more has arrived; false where the server has ended the call with OK.
    pub async fn more(&mut self) -> Result<bool, BenchError> {
        let body = match &mut self.from {
            From::Body(body) => body,
            From::Head(response) => {
                let response = response.await?;
                check_status(response.headers())?;
                if response.status() != StatusCode::OK {
                    return Err(format!("the server answered HTTP {}", response.status()).into());
                }
                self.from = From::Body(response.into_body());
                return Ok(true);
            }
        };
        let Some(chunk) = body.data().await else {
            let trailers = body.trailers().await?.unwrap_or_default();
            check_status(&trailers)?;
            return Ok(false);
        };
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        self.messages.push(chunk);
        Ok(true)
    }
}

fn check_status(headers: &HeaderMap) -> Result<(), BenchError> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(refusal(&status)),
        _ => Ok(()),
    }
}

/// What the server refused, in one line.
pub fn refusal(status: &Status) -> BenchError {
    format!("the server refused a call: {:?}: {}", status.code(), status.message()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_with_a_port() {
        assert_eq!(Endpoint::parse("http://localhost:3000").unwrap().url(), "http://localhost:3000");
        assert_eq!(Endpoint::parse("http://localhost:3000/").unwrap().url(), "http://localhost:3000");
        for wrong in ["localhost:3000", "https://localhost:3000", "http://localhost", ""] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
