//! How the pages look, and what browsers may do with them: no script, nothing foreign, nothing framed.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::http::MatrixError;
pub(super) use crate::setup::page::escape;

/// What a page's handler gives.
pub(super) type Shown = Result<Response, Page>;

/// A page of HTML.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where its form leads in the end, beside to this origin.
    target: Option<String>,
    cookie: Option<HeaderValue>,
}

impl Page {
    /// A page. `title` is text, `body` is HTML.
    pub(super) fn new(title: impl Into<String>, body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, title: title.into(), body: body.into(), target: None, cookie: None }
    }

    /// A page that says what went wrong, in text.
    pub(super) fn wrong(status: StatusCode, message: &str) -> Self {
        let body = format!("<p class=\"error\" role=\"alert\">{}</p>", escape(message));
        Self { status, ..Self::new("This did not work", body) }
    }

    /// With another status.
    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Whose form may lead to `source`, of a Content-Security-Policy.
    pub(super) fn leading_to(self, source: Option<String>) -> Self {
        Self { target: source, ..self }
    }

    /// That sets a cookie.
    pub(super) fn with_cookie(self, cookie: Option<HeaderValue>) -> Self {
        Self { cookie, ..self }
    }
}

impl From<MatrixError> for Page {
    fn from(error: MatrixError) -> Self {
        Self::wrong(error.status, &error.message)
    }
}

impl From<kith_store::StoreError> for Page {
    fn from(error: kith_store::StoreError) -> Self {
        MatrixError::from(error).into()
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
             <link rel=\"icon\" href=\"../plain/icon.svg\" type=\"image/svg+xml\">\n<link rel=\"stylesheet\" href=\"../plain/setup.css\">\n\
             </head>\n<body>\n<header>\n<img src=\"../plain/icon.svg\" alt=\"\" width=\"40\" height=\"40\">\n<p class=\"brand\">kith</p>\n\
             </header>\n<main>\n<section>\n<h1>{title}</h1>\n{body}\n</section>\n</main>\n</body>\n</html>\n",
            title = escape(&self.title),
            body = self.body,
        );
        let target = self.target.unwrap_or_default();
        let policy = format!(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {target}; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        let mut response = (self.status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
        let headers = response.headers_mut();
        let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        // Not `no-referrer`, with which browsers do not tell that a form is of our own page.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(cookie) = self.cookie {
            headers.insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// A field of a form, with its label and a hint in HTML. `attributes` are HTML, too.
pub(super) fn field(name: &str, label: &str, attributes: &str, hint: &str) -> String {
    let (described, hint) = match hint {
        "" => (String::new(), String::new()),
        hint => {
            (format!(" aria-describedby=\"{name}-hint\""), format!("<p id=\"{name}-hint\" class=\"quiet\">{hint}</p>"))
        }
    };
    format!(
        "<div class=\"field\"><label for=\"{name}\">{label}</label>\
         <input id=\"{name}\" name=\"{name}\" required {attributes}{described}>{hint}</div>"
    )
}

/// The password of a user that is asked for once more. Password managers are told whose it is.
pub(super) fn password_again(user: &str) -> String {
    let user = escape(user);
    let name = format!("<input name=\"username\" value=\"{user}\" autocomplete=\"username\" hidden readonly>");
    name + &field(
        "password",
        "Your password",
        "type=\"password\" autocomplete=\"current-password\" maxlength=\"1024\"",
        "",
    )
}

/// A sentence above a form; nothing when it is empty.
pub(super) fn notice(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!("<p class=\"error\" role=\"alert\">{}</p>", escape(message)),
    }
}

/// A button that sends what it does.
pub(super) fn button(does: &str, label: &str, class: &str) -> String {
    format!("<button type=\"submit\" name=\"do\" value=\"{does}\" class=\"{class}\">{label}</button>")
}
