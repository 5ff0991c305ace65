//! The routes of one listener: their order, their patterns, and which of them takes a request.

use std::borrow::Cow;
use std::cell::LazyCell;

use crate::protocol::http::{ParsedHead, RequestHead, upgrade};

use super::path::Pattern;
use super::request::Request;
use super::upload::UploadRoute;
use super::websocket::WebSocketRoute;

pub(super) type OnRequest<S> = Box<dyn FnMut(&mut Request<'_, '_, S>)>;

pub(super) enum Endpoint<S> {
    Request {
        method: Cow<'static, str>,
        call: OnRequest<S>,
    },
    WebSocket(Box<WebSocketRoute<S>>),
    /// The body is handed out as it comes.
    Upload {
        method: Cow<'static, str>,
        route: Box<UploadRoute<S>>,
    },
}

struct Route<S> {
    pattern: Pattern,
    endpoint: Endpoint<S>,
}

/// Routes, in the order in which they were added and are tried.
pub(super) struct Routes<S> {
    list: Vec<Route<S>>,
    /// The pattern of a request that matches no route. The guard sees such requests too, and
    /// `Request` borrows a pattern.
    unmatched: Pattern,
    has_uploads: bool,
}

impl<S: 'static> Routes<S> {
    pub(super) fn new() -> Routes<S> {
        Routes {
            list: Vec::new(),
            unmatched: Pattern::of_no_route(),
            has_uploads: false,
        }
    }

    pub(super) fn add(&mut self, path: &str, endpoint: Endpoint<S>) {
        self.has_uploads |= matches!(endpoint, Endpoint::Upload { .. });
        self.list.push(Route {
            pattern: Pattern::new(path),
            endpoint,
        });
    }

    /// The routes for WebSockets.
    pub(super) fn websockets_mut(&mut self) -> impl Iterator<Item = &mut WebSocketRoute<S>> {
        self.list
            .iter_mut()
            .filter_map(|route| match &mut route.endpoint {
                Endpoint::WebSocket(route) => Some(&mut **route),
                Endpoint::Request { .. } | Endpoint::Upload { .. } => None,
            })
    }

    /// The index of the route for a request.
    ///
    /// Linear in the routes, which are few: the search costs less than the parse of the head did.
    pub(super) fn find(&self, head: &RequestHead<'_>, wants_upgrade: bool) -> Option<usize> {
        // A WebSocket route for a request that is no upgrade. It is taken only if no other route
        // fits, so that a page and a WebSocket can share a path.
        let mut without_upgrade = None;
        let is_encoded = LazyCell::new(|| head.path().contains('%'));
        for (index, route) in self.list.iter().enumerate() {
            let has_method = match &route.endpoint {
                Endpoint::WebSocket(_) => matches!(head.method, "GET" | "HEAD"),
                Endpoint::Request { method, .. } | Endpoint::Upload { method, .. } => {
                    *method == head.method
                        || *method == "*"
                        || (*method == "GET" && head.method == "HEAD")
                }
            };
            if !has_method || !route.pattern.matches(head.path(), || *is_encoded) {
                continue;
            }
            match &route.endpoint {
                Endpoint::WebSocket(_) if !wants_upgrade => {
                    without_upgrade = without_upgrade.or(Some(index))
                }
                Endpoint::WebSocket(_) | Endpoint::Request { .. } | Endpoint::Upload { .. } => {
                    return Some(index);
                }
            }
        }
        without_upgrade
    }

    /// The methods of the routes that have the path of a request, each once.
    pub(super) fn allowed_methods(&self, head: &RequestHead<'_>) -> Vec<String> {
        let mut allowed: Vec<String> = Vec::new();
        let is_encoded = LazyCell::new(|| head.path().contains('%'));
        for route in &self.list {
            let method = match &route.endpoint {
                Endpoint::WebSocket(_) => "GET",
                Endpoint::Request { method, .. } | Endpoint::Upload { method, .. } => {
                    method.as_ref()
                }
            };
            let is_new = !allowed.iter().any(|known| known == method);
            if is_new && route.pattern.matches(head.path(), || *is_encoded) {
                allowed.push(method.to_owned());
            }
        }
        allowed
    }

    /// The pattern, the number and the endpoint of a route that was [found](Self::find), or the
    /// pattern of no route.
    pub(super) fn get_mut(
        &mut self,
        found: Option<usize>,
    ) -> (&Pattern, Option<(u16, &mut Endpoint<S>)>) {
        match found {
            Some(index) => {
                let Route { pattern, endpoint } = &mut self.list[index];
                (pattern, Some((index as u16, endpoint)))
            }
            None => (&self.unmatched, None),
        }
    }

    /// The route with this number, if it is one for WebSockets. The fast path knows the number and
    /// does not look up the connection for it.
    #[inline]
    pub(super) fn websocket_at(&mut self, route: u16) -> Option<&mut WebSocketRoute<S>> {
        match self
            .list
            .get_mut(usize::from(route))
            .map(|route| &mut route.endpoint)
        {
            Some(Endpoint::WebSocket(route)) => Some(route),
            Some(Endpoint::Request { .. } | Endpoint::Upload { .. }) | None => None,
        }
    }

    /// The route with this number, if it gets bodies as they come.
    pub(super) fn upload_at(&mut self, route: u16) -> Option<&mut UploadRoute<S>> {
        match self
            .list
            .get_mut(usize::from(route))
            .map(|route| &mut route.endpoint)
        {
            Some(Endpoint::Upload { route, .. }) => Some(route),
            Some(Endpoint::Request { .. } | Endpoint::WebSocket(_)) | None => None,
        }
    }

    /// Whether the body of this request is handed out as it comes. Most listeners have no such route,
    /// and their requests pay one comparison.
    #[inline]
    pub(super) fn hands_out(&self, parsed: &ParsedHead<'_>) -> bool {
        self.has_uploads && self.finds_upload(parsed)
    }

    fn finds_upload(&self, parsed: &ParsedHead<'_>) -> bool {
        let is_plain = matches!(upgrade::check(parsed), Ok(None));
        let found = self.find(&parsed.head, false).filter(|_| is_plain);
        found.is_some_and(|index| matches!(self.list[index].endpoint, Endpoint::Upload { .. }))
    }

    /// The name of a route for log lines, such as `GET /users/:id`.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        let Route { pattern, endpoint } = self.list.get(index)?;
        let method = match endpoint {
            Endpoint::Request { method, .. } | Endpoint::Upload { method, .. } => method.as_ref(),
            Endpoint::WebSocket(_) => "websocket",
        };
        Some(format!("{method} {}", pattern.as_str()))
    }
}
