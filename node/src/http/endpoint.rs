//! The one generic piece that makes a route of a `ruma` request type: path, authentication, parsing and the answer
//! come from the type's metadata, so that an endpoint is a function and a line in a route table.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, FromRequestParts, RawPathParams},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::{Method, Request, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId,
    api::{
        IncomingRequest, IncomingRequestExt as _, Metadata, OutgoingResponse, OutgoingResponseExt as _,
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, AuthScheme, NoAccessToken,
            NoAuthentication,
        },
        error::{DeserializationError, FromHttpRequestError},
        federation::authentication::ServerSignatures,
        path_builder::PathBuilder as _,
    },
};

use super::error::{Answer, MatrixError};
use super::patience::TooSlow;
use crate::{
    Node, accounts,
    appservice::{self, Registered},
    config::Limits,
    server_api,
};

/// A caller of whom nothing is known but where it calls from.
#[derive(Debug, Clone, Default)]
pub struct Anonymous {
    /// The address of the connection; none for calls that came over the mesh or in process.
    pub remote: Option<SocketAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The web page that calls (header `Origin`), of which browsers always tell with what a foreign page posts. None for
    /// clients that are no web pages.
    pub page: Option<String>,
}

/// A signed-in device.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whose device it is.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Whether its user administers this node.
    pub admin: bool,
    /// The ID of the application service that acts as the user; it may do so without a device, whose ID is empty then.
    pub appservice: Option<String>,
    /// Where the call came from.
    pub from: Anonymous,
}

/// A caller who is not signed in, but may be an application service.
#[derive(Debug, Clone)]
pub struct Stranger {
    /// Where the call came from.
    pub from: Anonymous,
    /// The application service whose token it shows.
    pub service: Option<Arc<Registered>>,
    /// Whether it shows a token at all.
    pub shows_token: bool,
}

/// An application service.
#[derive(Debug, Clone)]
pub struct ServiceCaller {
    /// The service.
    pub service: Arc<Registered>,
    /// The user that it acts as.
    pub session: Session,
}

/// The server that signed a federation request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its name, verified.
    pub server: OwnedServerName,
}

/// The longest body of somebody who has shown no token: a login, a new account.
const STRANGERS_BODY: u64 = 64 << 10;

/// How an authentication scheme of the specification becomes a caller.
pub trait Gate: AuthScheme {
    /// What the handler learns of its caller.
    type Caller: Send;
    /// The longest body accepted, in bytes (media have their own way in).
    fn body_limit(limits: &Limits) -> u64 {
        limits.client_body_size.min(STRANGERS_BODY)
    }
    /// Whether only the whole request shows who calls. Otherwise nobody is listened to before that is known.
    const NEEDS_BODY: bool = false;
    /// Checks who calls. Without [`Self::NEEDS_BODY`] the body is empty yet.
    fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> impl Future<Output = Answer<Self::Caller>> + Send;
}

fn anonymous<T>(request: &Request<T>) -> Anonymous {
    let text = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.map(|text| text.chars().take(200).collect())
    };
    Anonymous {
        remote: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
        user_agent: text(header::USER_AGENT),
        page: text(header::ORIGIN),
    }
}

impl Gate for NoAuthentication {
    type Caller = Anonymous;
    async fn admit(_: &Arc<Node>, request: &Request<Bytes>) -> Answer<Anonymous> {
        Ok(anonymous(request))
    }
}

impl Gate for NoAccessToken {
    type Caller = Anonymous;
    async fn admit(_: &Arc<Node>, request: &Request<Bytes>) -> Answer<Anonymous> {
        Ok(anonymous(request))
    }
}

impl Gate for AccessToken {
    type Caller = Session;
    fn body_limit(limits: &Limits) -> u64 {
        limits.client_body_size
    }
    async fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> Answer<Session> {
        let token = AccessToken::extract_authentication(request).map_err(|_| MatrixError::missing_token())?;
        accounts::authenticate(node, &token, anonymous(request), request.method(), request.uri()).await
    }
}

impl Gate for AppserviceToken {
    type Caller = ServiceCaller;
    fn body_limit(limits: &Limits) -> u64 {
        limits.client_body_size
    }
    async fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> Answer<ServiceCaller> {
        let token = AppserviceToken::extract_authentication(request).map_err(|_| MatrixError::missing_token())?;
        let (method, uri) = (request.method(), request.uri());
        let Some(service) = node.appservices.by_token(&token).cloned() else {
            // Whoever else is signed in is told that this is not for them.
            accounts::authenticate(node, &token, anonymous(request), method, uri).await?;
            return Err(MatrixError::forbidden("this is for application services"));
        };
        let session = appservice::authenticate(node, &service, anonymous(request), method, uri)?;
        Ok(ServiceCaller { service, session })
    }
}

impl Gate for AccessTokenOptional {
    type Caller = Option<Session>;
    async fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> Answer<Option<Session>> {
        match AccessTokenOptional::extract_authentication(request).map_err(|_| MatrixError::missing_token())? {
            Some(token) => {
                let (method, uri) = (request.method(), request.uri());
                accounts::authenticate(node, &token, anonymous(request), method, uri).await.map(Some)
            }
            None => Ok(None),
        }
    }
}

impl Gate for AppserviceTokenOptional {
    type Caller = Stranger;
    async fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> Answer<Stranger> {
        // Clients also come with tokens of an account they had.
        let token = AppserviceTokenOptional::extract_authentication(request).ok().flatten();
        let service = token.as_deref().and_then(|token| node.appservices.by_token(token)).cloned();
        Ok(Stranger { from: anonymous(request), service, shows_token: token.is_some() })
    }
}

impl Gate for ServerSignatures {
    type Caller = Origin;
    fn body_limit(limits: &Limits) -> u64 {
        limits.federation_body_size
    }
    const NEEDS_BODY: bool = true;
    async fn admit(node: &Arc<Node>, request: &Request<Bytes>) -> Answer<Origin> {
        let header = ServerSignatures::extract_authentication(request).map_err(|error| {
            MatrixError::new(
                http::StatusCode::UNAUTHORIZED,
                "M_UNAUTHORIZED",
                format!("the request is not signed by a server: {error}"),
            )
        })?;
        server_api::verify(node, header, request).await
    }
}

/// A table of routes that share the node.
pub struct Routes {
    node: Arc<Node>,
    router: axum::Router,
}

impl Routes {
    /// An empty table.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, router: axum::Router::new() }
    }

    /// Serves every path of the request type `R` with `handler(node, caller, request)`.
    #[expect(clippy::should_implement_trait, reason = "it adds a route, and no operator is meant")]
    pub fn add<R, F, Fut>(self, handler: F) -> Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Gate,
        F: Fn(Arc<Node>, <R::Authentication as Gate>::Caller, R) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<R::OutgoingResponse>> + Send + 'static,
        R::OutgoingResponse: Send,
    {
        <R as Metadata>::PATH_BUILDER.all_paths().fold(self, |routes, path| routes.add_at(path, handler.clone()))
    }

    /// Serves `R` at a path that its metadata does not name (an optional last part left out).
    pub fn add_at<R, F, Fut>(mut self, path: &str, handler: F) -> Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Gate,
        F: Fn(Arc<Node>, <R::Authentication as Gate>::Caller, R) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<R::OutgoingResponse>> + Send + 'static,
        R::OutgoingResponse: Send,
    {
        let node = self.node.clone();
        let method = on(filter(&R::METHOD), move |request: Request<Body>| {
            let (node, handler) = (node.clone(), handler.clone());
            async move {
                match serve::<R, F, Fut>(node, handler, request).await {
                    Ok(response) => response,
                    Err(error) => error.into_response(),
                }
            }
        });
        self.router = self.router.route(path, method);
        self
    }

    /// Serves a path by a plain axum route, for what has no `ruma` type or streams its body.
    pub fn raw(mut self, path: &str, route: MethodRouter) -> Self {
        self.router = self.router.route(path, route);
        self
    }

    /// Adds all routes of another table.
    pub fn merge(mut self, other: axum::Router) -> Self {
        self.router = self.router.merge(other);
        self
    }

    /// The node the table serves.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The finished router; unknown paths and methods answer `M_UNRECOGNIZED`.
    pub fn finish(self) -> axum::Router {
        self.router
    }
}

fn filter(method: &Method) -> MethodFilter {
    match *method {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        Method::PATCH => MethodFilter::PATCH,
        _ => MethodFilter::GET,
    }
}

async fn serve<R, F, Fut>(node: Arc<Node>, handler: F, request: Request<Body>) -> Answer<Response>
where
    R: IncomingRequest,
    R::Authentication: Gate,
    F: Fn(Arc<Node>, <R::Authentication as Gate>::Caller, R) -> Fut,
    Fut: Future<Output = Answer<R::OutgoingResponse>>,
{
    let limit = <R::Authentication as Gate>::body_limit(&node.config.limits);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (caller, path, request) = if R::Authentication::NEEDS_BODY {
        let (parts, path, body) = read(request, limit).await?;
        let request = Request::from_parts(parts, body);
        (R::Authentication::admit(&node, &request).await?, path, request)
    } else {
        let (head, body) = request.into_parts();
        let head = Request::from_parts(head, Bytes::new());
        let caller = R::Authentication::admit(&node, &head).await?;
        let (parts, path, body) = read(head.map(|_| body), limit).await?;
        (caller, path, Request::from_parts(parts, body))
    };
    // Clients send POST requests without a body where the specification has an empty object.
    let body: &[u8] = match request.body().as_ref() {
        [] if R::METHOD == Method::POST || R::METHOD == Method::PUT => b"{}",
        bytes => bytes,
    };
    let mut plain = Request::new(body);
    *plain.method_mut() = request.method().clone();
    *plain.uri_mut() = request.uri().clone();
    *plain.headers_mut() = request.headers().clone();
    let parameters: Vec<&str> = path.iter().map(String::as_str).collect();
    let request = R::try_from_http_request(plain, &parameters).map_err(refusal)?;
    let response = handler(node, caller, request).await?;
    respond(response)
}

/// Admits a signed-in client to a route that streams its body. Gives the caller, the path parameters and the request.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`.
pub async fn admit_streaming(
    node: &Arc<Node>,
    request: Request<Body>,
) -> Answer<(Session, Vec<String>, Request<Body>)> {
    admit_bodyless::<AccessToken>(node, request).await
}

/// Lets anybody come to a route without a `ruma` type. Gives the caller, the path parameters and the request.
///
/// # Errors
/// `M_INVALID_PARAM` for a path that is no UTF-8.
pub async fn admit_anybody(
    node: &Arc<Node>,
    request: Request<Body>,
) -> Answer<(Anonymous, Vec<String>, Request<Body>)> {
    admit_bodyless::<NoAuthentication>(node, request).await
}

/// Admits a server to a route without a `ruma` type. Such requests have no body.
///
/// # Errors
/// `M_UNAUTHORIZED` and what else [`server_api::verify`] says.
pub async fn admit_server(node: &Arc<Node>, request: Request<Body>) -> Answer<(Origin, Vec<String>, Request<Body>)> {
    admit_bodyless::<ServerSignatures>(node, request).await
}

async fn admit_bodyless<G: Gate>(
    node: &Arc<Node>,
    request: Request<Body>,
) -> Answer<(G::Caller, Vec<String>, Request<Body>)> {
    let (mut parts, body) = request.into_parts();
    let path = path_parameters(&mut parts).await?;
    let bare = Request::from_parts(parts.clone(), Bytes::new());
    let caller = G::admit(node, &bare).await?;
    Ok((caller, path, Request::from_parts(parts, body)))
}

/// The query string of a request without a `ruma` type.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub fn query<T: serde::de::DeserializeOwned>(request: &Request<Body>) -> Answer<T> {
    axum::extract::Query::<T>::try_from_uri(request.uri())
        .map(|query| query.0)
        .map_err(|error| MatrixError::invalid_param(error.body_text()))
}

async fn path_parameters(parts: &mut Parts) -> Answer<Vec<String>> {
    Ok(RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| MatrixError::invalid_param("the path is not valid UTF-8"))?
        .iter()
        .map(|(_, value)| value.to_owned())
        .collect())
}

/// Turns a typed response into one for the wire.
pub fn respond<T: OutgoingResponse>(response: T) -> Answer<Response> {
    let response = response.try_into_http_response::<Vec<u8>>().map_err(MatrixError::internal)?;
    Ok(response.map(Body::from))
}

/// Reads a request's path parameters (decoded) and its body, up to `limit` bytes.
pub async fn read(request: Request<Body>, limit: usize) -> Answer<(Parts, Vec<String>, Bytes)> {
    let (mut parts, body) = request.into_parts();
    let path = path_parameters(&mut parts).await?;
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if is_too_long(&*error) => {
            return Err(MatrixError::too_large("the body is too long"));
        }
        Err(error) if is_slow(&*error) => {
            return Err(MatrixError::new(http::StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", TooSlow.to_string()));
        }
        Err(_) => return Err(MatrixError::bad_request("the body ended early")),
    };
    Ok((parts, path, body))
}

/// Whether the cause, or a cause of it, is [`TooSlow`].
fn is_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}

/// Whether a body broke off at a limit, its own here or one set around the routes.
fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}

/// What a request that does not parse is answered with.
fn refusal(error: FromHttpRequestError) -> MatrixError {
    match error {
        FromHttpRequestError::Deserialization(DeserializationError::Json(error))
            if error.is_syntax() || error.is_eof() =>
        {
            MatrixError::new(http::StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("the body is not JSON: {error}"))
        }
        FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => {
            MatrixError::bad_json(error.to_string())
        }
        FromHttpRequestError::Deserialization(error) => MatrixError::invalid_param(error.to_string()),
        error => MatrixError::bad_request(error.to_string()),
    }
}
