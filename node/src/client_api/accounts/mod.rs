//! Client-server specification, chapters "Client Authentication", "Account registration and management" and
//! "Device Management".

mod devices;
mod fallback;
mod login;
mod manage;
mod openid;
mod register;
mod standing;
mod synapse;
mod third_party_ids;
mod whois;

use crate::http::Routes;

/// The routes of these chapters.
pub fn routes(routes: Routes) -> Routes {
    let routes = login::routes(routes);
    let routes = fallback::routes(routes);
    let routes = register::routes(routes);
    let routes = manage::routes(routes);
    let routes = devices::routes(routes);
    let routes = third_party_ids::routes(routes);
    let routes = openid::routes(routes);
    let routes = whois::routes(routes);
    let routes = standing::routes(routes);
    synapse::routes(routes)
}
