//! A request of a backend: signed by its app, and answered in JSON.

use std::borrow::Cow;
use std::rc::Rc;

use crate::protocol::http::{Status, form};
use crate::protocol::pusher::signature::ApiRequest;
use crate::server::reply::Reply;
use crate::server::request::Request;

use crate::hub::pusher::app::PusherApp;

/// A request that its backend has signed.
pub(super) struct Call<'a> {
    app: &'a Rc<PusherApp>,
    /// The parameters of the query.
    query: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    /// The call that a request makes.
    ///
    /// # Errors
    ///
    /// The answer 401 where the app has not signed it, and 400 where the query cannot be read.
    pub(super) fn of<S: 'static>(
        request: &Request<'_, '_, S>,
        app: &'a Rc<PusherApp>,
    ) -> Result<Call<'a>, Reply> {
        let query = signed_query(request, app)?;
        Ok(Call { app, query })
    }

    pub(super) fn app(&self) -> &'a Rc<PusherApp> {
        self.app
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let mut found = self.query.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// The parameters of a request that the app has signed.
///
/// # Errors
///
/// The answer 401 where it has not, and 400 where the query cannot be read.
fn signed_query<S: 'static>(
    request: &Request<'_, '_, S>,
    app: &PusherApp,
) -> Result<Vec<(String, String)>, Reply> {
    let pairs = form::try_pairs(request.query_string().unwrap_or_default());
    let owned =
        |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    let query: Option<Vec<_>> = pairs.map(|pair| pair.map(owned)).collect();
    let query = query.ok_or_else(|| bad("the query is not UTF-8 text"))?;
    let signed = ApiRequest {
        method: request.method(),
        path: request.path(),
        query: &query,
        body: request.body(),
    };
    let now_unix = request.reactor.system_unix_time();
    match signed.check(app.key(), app.secret(), now_unix) {
        Ok(()) => Ok(query),
        Err(error) => Err((Status::UNAUTHORIZED, format!("{error}\n")).into()),
    }
}

/// The answer to a request that cannot be carried out.
pub(super) fn bad(why: &str) -> Reply {
    (Status::BAD_REQUEST, format!("{why}\n")).into()
}

pub(super) fn json_reply(text: impl Into<Reply>) -> Reply {
    text.into().content_type("application/json")
}
