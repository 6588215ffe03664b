//! Client-server specification, chapters "End-to-End Encryption" and "Send-to-Device messaging".

mod backup;
mod cross_signing;
mod dehydrated;
mod query;
mod to_device;
mod upload;

use ruma::serde::Raw;
use serde_json::Value;

use crate::{
    e2ee::Object,
    http::{Answer, MatrixError, Routes},
};

/// The routes of these chapters.
pub fn routes(routes: Routes) -> Routes {
    let routes = upload::routes(routes);
    let routes = query::routes(routes);
    let routes = cross_signing::routes(routes);
    let routes = to_device::routes(routes);
    let routes = dehydrated::routes(routes);
    backup::routes(routes)
}

/// A part of a request as the object it is.
fn object<T>(raw: &Raw<T>, name: &str) -> Answer<Object> {
    match serde_json::from_str(raw.json().get()) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(MatrixError::bad_json(format!("`{name}` must be an object"))),
    }
}

/// A stored object as a part of an answer.
fn raw<T>(object: Object) -> Answer<Raw<T>> {
    Raw::new(&object).map(Raw::cast_unchecked).map_err(MatrixError::internal)
}
