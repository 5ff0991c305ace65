//! The rights of a client: what its credential grants.
//!
//! A credential is tried as a publish token first, then as a JSON Web Token. It comes as a bearer token, as the
//! parameter `token` of the query, as the cookie `waterwheel_token`, or in a message of the envelope.
//!
//! A client that shows a credential has the rights of that one, also on a local hub that is open to clients
//! without any.

use std::borrow::Cow;
use std::rc::Rc;

use crate::protocol::http::Headers;
use crate::pubsub::{Rules, pattern};
use crate::server::origins::Origins;
use crate::server::request::Request;
use crate::session::handler::Handshake;

use super::access::{Access, is_from_proxy};
use super::jwt::{Claims, TokenError};

/// The longest message of a client that is not trusted, in bytes. It may only send names, which
/// have at most 256 bytes each, and publish to topics whose rule lets clients publish.
pub(super) const STRANGERS_BYTES_MAX: u32 = 4096;

/// The cookie that may have a credential.
const COOKIE: &str = "waterwheel_token";

/// How far the rights of a client go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// To public topics by their names.
    #[default]
    Public,
    /// To all but private topics: a client of this machine, without a credential.
    Local,
    /// As far as the claims of its token say.
    Token,
    /// To everything: the publish token, or an open hub.
    All,
}

/// The rights of a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    pub(super) scope: Scope,
    /// The claims of its token. On an open hub they only say who it is.
    pub(super) claims: Option<Rc<Claims>>,
}

/// Why a client has no other rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It has shown no credential, or one that is right.
    Nothing,
    /// Its credential is wrong: it may be a guess.
    Wrong,
    /// Its token is signed, and refused for its time or for its claims.
    Refused(TokenError),
}

/// The part that a client lacks for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// A credential.
    Credential,
    /// Its token does not grant this.
    Grant,
}

impl Rights {
    pub(super) fn new(scope: Scope) -> Rights {
        Rights {
            scope,
            claims: None,
        }
    }

    /// The rights of the client of a request.
    pub(super) fn of_request<S: 'static>(
        request: &Request<'_, '_, S>,
        access: &Access,
    ) -> (Rights, Shown) {
        let headers = request.headers();
        let is_forwarded = || is_from_proxy(request.reactor, request.id, headers);
        let credential = || credential(request, access);
        let now_unix = || request.reactor.system_unix_time();
        Rights::of(access, credential, is_forwarded, now_unix)
    }

    /// The rights of the client that opens a WebSocket.
    pub(super) fn of_handshake(
        handshake: &Handshake<'_>,
        access: &Access,
        is_forwarded: bool,
        now_unix: impl FnOnce() -> u64,
    ) -> (Rights, Shown) {
        let headers = handshake.headers();
        let credential = || credential_of(headers, || handshake.query("token"), access);
        Rights::of(access, credential, || is_forwarded, now_unix)
    }

    /// The rights that a credential gives on a listener. `is_forwarded` says whether a proxy has passed the
    /// request on.
    pub(super) fn of<'c>(
        access: &Access,
        credential: impl FnOnce() -> Option<Cow<'c, str>>,
        is_forwarded: impl FnOnce() -> bool,
        now_unix: impl FnOnce() -> u64,
    ) -> (Rights, Shown) {
        let has_secrets = !access.token_secrets.is_empty();
        let is_open = access.grants(is_forwarded);
        // Where a credential could change nothing, the request is not searched for one.
        let credential = match has_secrets || !is_open {
            true => credential(),
            false => None,
        };
        let Some(credential) = credential else {
            let scope = match is_open {
                true if access.open => Scope::All,
                true => Scope::Local,
                false => Scope::Public,
            };
            return (Rights::new(scope), Shown::Nothing);
        };
        let (scope, otherwise) = match access.open {
            true => (Scope::All, Scope::All),
            false => (Scope::Token, Scope::Public),
        };
        if access.is_publish_token(&credential) {
            return (Rights::new(Scope::All), Shown::Nothing);
        }
        let claims = match has_secrets {
            true => access.token_secrets.verify(&credential, now_unix()),
            false => Err(TokenError::Signature),
        };
        match claims {
            Ok(claims) => {
                let claims = Some(Rc::new(claims));
                (Rights { scope, claims }, Shown::Nothing)
            }
            Err(error) if error.is_signed() => (Rights::new(otherwise), Shown::Refused(error)),
            Err(_) => (Rights::new(otherwise), Shown::Wrong),
        }
    }

    /// Whether the client may subscribe to a topic, or to a pattern where the name is one. A pattern is granted as a
    /// whole: deliveries leave out the private topics that the client may not have.
    ///
    /// # Errors
    ///
    /// The part that it lacks, the same whether the topic exists or not.
    pub(super) fn may_subscribe(&self, rules: &Rules, name: &str) -> Result<(), Lack> {
        let is_allowed = match pattern::is_pattern(name) {
            true => match self.scope {
                Scope::Public => false,
                Scope::Local | Scope::All => true,
                Scope::Token => self.claims().is_some_and(|it| !it.subscribe.is_empty()),
            },
            false => self.may_have(rules, name),
        };
        self.unless_lacking(is_allowed)
    }

    /// Whether the client may publish to a topic.
    ///
    /// # Errors
    ///
    /// As [`may_subscribe`](Self::may_subscribe).
    pub(super) fn may_publish(&self, rules: &Rules, topic: &str) -> Result<(), Lack> {
        let rule = rules.of(topic);
        let is_granted = match self.scope {
            Scope::Public => false,
            Scope::Local => !rule.is_private,
            Scope::Token => self.claims().is_some_and(|it| matches(&it.publish, topic)),
            Scope::All => true,
        };
        self.unless_lacking(is_granted || rule.clients_publish && self.may_have(rules, topic))
    }

    /// Whether the client may get what is published to a topic.
    pub(super) fn may_have(&self, rules: &Rules, topic: &str) -> bool {
        !rules.of(topic).is_private || self.may_have_private(topic)
    }

    /// Whether the client may get what is published to a topic whose rule is private.
    pub(super) fn may_have_private(&self, topic: &str) -> bool {
        match self.scope {
            Scope::Public | Scope::Local => false,
            Scope::Token => self
                .claims()
                .is_some_and(|it| matches(&it.subscribe, topic)),
            Scope::All => true,
        }
    }

    /// Whether the client holds a credential, so that it may send long messages.
    pub(super) fn is_trusted(&self) -> bool {
        self.scope != Scope::Public
    }

    /// Whether there may be a topic to which the client may publish. Where there is none, it learns nothing else about
    /// its request.
    pub(super) fn may_publish_somewhere(&self, rules: &Rules) -> bool {
        self.is_trusted() || rules.iter().any(|(_, rule)| rule.clients_publish)
    }

    /// Whether the client may ask who is present in a topic without being a member: the back end, and a user whose
    /// token names the topic.
    ///
    /// # Errors
    ///
    /// As [`may_subscribe`](Self::may_subscribe).
    pub(super) fn may_list_users(&self, rules: &Rules, topic: &str) -> Result<(), Lack> {
        let is_local = self.scope == Scope::Local && !rules.of(topic).is_private;
        self.unless_lacking(is_local || self.may_have_private(topic))
    }

    /// Whether the client may do what only the back end does, such as to list topics.
    ///
    /// # Errors
    ///
    /// As [`may_subscribe`](Self::may_subscribe).
    pub(super) fn may_administer(&self) -> Result<(), Lack> {
        self.unless_lacking(matches!(self.scope, Scope::Local | Scope::All))
    }

    /// The user that the token names.
    pub(super) fn user(&self) -> Option<&str> {
        self.claims()?.user.as_deref()
    }

    /// The rest that others learn about the user, as JSON.
    #[cfg(feature = "pusher")]
    pub(super) fn info(&self) -> Option<&str> {
        self.claims()?.info.as_deref()
    }

    /// The first second, since 1970, in which the token is no longer valid.
    pub(super) fn end_unix(&self) -> Option<u64> {
        self.claims().map(Claims::end_unix)
    }

    fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    fn unless_lacking(&self, is_allowed: bool) -> Result<(), Lack> {
        match (is_allowed, self.scope) {
            (true, _) => Ok(()),
            (false, Scope::Token) => Err(Lack::Grant),
            (false, Scope::Public | Scope::Local | Scope::All) => Err(Lack::Credential),
        }
    }
}

fn matches(patterns: &[Box<str>], topic: &str) -> bool {
    let mut patterns = patterns.iter();
    patterns.any(|it| pattern::matches(it.as_bytes(), topic.as_bytes()))
}

/// The credential that a request shows, right or wrong.
pub(super) fn credential<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
) -> Option<Cow<'i, str>> {
    credential_of(request.headers(), || request.query("token"), access)
}

/// The credential of a request: its bearer token, or else the parameter of its query, or else its cookie.
fn credential_of<'h>(
    headers: Headers<'h>,
    query: impl FnOnce() -> Option<Cow<'h, str>>,
    access: &Access,
) -> Option<Cow<'h, str>> {
    headers
        .first("authorization")
        .and_then(bearer)
        .or_else(query)
        .or_else(|| cookie(headers, COOKIE, access).map(Cow::Borrowed))
}

/// The token in a header `Authorization`, where it has one.
pub(super) fn bearer(value: &str) -> Option<Cow<'_, str>> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| Cow::Borrowed(token.trim()))
}

/// The credential in this cookie of a request. `None` for a request that a page of another origin may have made,
/// because browsers add cookies to those too, and for two cookies that differ, of which another site below the
/// same domain may have set one.
///
/// Source: RFC 6265, sections 5.4 and 8.6.
pub(super) fn cookie<'h>(headers: Headers<'h>, cookie: &str, access: &Access) -> Option<&'h str> {
    let pairs = headers.all("cookie").flat_map(|line| line.split(';'));
    let mut values = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| *name == cookie && !value.is_empty())
        .map(|(_, value)| value);
    let first = values.next()?;
    let is_one = values.all(|value| value == first);
    (is_one && is_from_own_page(headers, access)).then_some(first)
}

/// Whether a request comes from no page, from one of this hub, or from one of an origin that the operator allows.
///
/// A browser leaves out `Origin` where a page loads something that it cannot read, such as an image. It then says
/// in `Sec-Fetch-Site` whose page that was. Source: W3C, "Fetch Metadata Request Headers".
fn is_from_own_page(headers: Headers<'_>, access: &Access) -> bool {
    let Some(origin) = headers.first("origin") else {
        return matches!(
            headers.first("sec-fetch-site"),
            None | Some("same-origin" | "none")
        );
    };
    let origins = Origins::Listed {
        origins: access.origins.clone(),
        absent: false,
    };
    origins.allow(Some(origin), headers.first("host"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::secrets::TokenSecrets;
    use crate::pubsub::Rules;

    fn rules() -> Rules {
        let mut rules = Rules::new();
        for rule in [
            "open.*=client-publish",
            "both.*=private,client-publish",
            "private.*=private",
        ] {
            rules.add_text(rule).unwrap();
        }
        rules
    }

    fn token(subscribe: &[&str], publish: &[&str]) -> Rights {
        let list = |patterns: &[&str]| patterns.iter().map(|it| (*it).into()).collect();
        let claims = Claims {
            subscribe: list(subscribe),
            publish: list(publish),
            ..Claims::default()
        };
        Rights {
            scope: Scope::Token,
            claims: Some(Rc::new(claims)),
        }
    }

    #[test]
    fn rights_by_scope_and_rule() {
        let (yes, credential, grant) = (Ok(()), Err(Lack::Credential), Err(Lack::Grant));
        let public = || Rights::new(Scope::Public);
        let local = || Rights::new(Scope::Local);
        let all = || Rights::new(Scope::All);
        // The client, the name, whether it may subscribe, and whether it may publish.
        let cases = [
            (public(), "news", yes, credential),
            (public(), "news*", credential, credential),
            (public(), "open.1", yes, yes),
            (public(), "both.1", credential, credential),
            (public(), "private.1", credential, credential),
            (local(), "news", yes, yes),
            (local(), "news*", yes, yes),
            (local(), "open.1", yes, yes),
            (local(), "both.1", credential, credential),
            (local(), "private.1", credential, credential),
            (all(), "private.1", yes, yes),
            (all(), "both.1", yes, yes),
            (all(), "p*", yes, yes),
            (token(&[], &[]), "news", yes, grant),
            (token(&[], &[]), "news*", grant, grant),
            (token(&[], &[]), "open.1", yes, yes),
            (token(&[], &["*"]), "news*", grant, yes),
            (token(&["private.1"], &[]), "private.1", yes, grant),
            (token(&["private.1"], &[]), "private.2", grant, grant),
            (token(&["private.1"], &[]), "private.10", grant, grant),
            (token(&["private.1"], &[]), "private.*", yes, grant),
            (token(&["private.1"], &["private.1"]), "private.1", yes, yes),
            (token(&[], &["private.?"]), "private.1", grant, yes),
            (token(&["both.*"], &[]), "both.1", yes, yes),
            (token(&["private.*"], &[]), "both.1", grant, grant),
        ];
        for (index, (rights, name, subscribe, publish)) in cases.into_iter().enumerate() {
            let rules = rules();
            assert_eq!(
                rights.may_subscribe(&rules, name),
                subscribe,
                "{index} {name}"
            );
            assert_eq!(rights.may_publish(&rules, name), publish, "{index} {name}");
        }
    }

    #[test]
    fn a_credential_is_a_publish_token_first() {
        let (_, jwt) = include_str!("../../tests/hub/tokens/good.txt")
            .lines()
            .find_map(|line| line.split_once('\t'))
            .unwrap();
        let secret = "the first secret of the tests, 40 bytes.";
        let secrets = || TokenSecrets::new(vec![secret.into()]).unwrap();
        let with_secret = || Access {
            token_secrets: secrets(),
            ..Access::default()
        };
        let with_both = || Access {
            token: Some("publish".into()),
            ..with_secret()
        };
        let local = |access: Access| Access {
            is_loopback: true,
            ..access
        };
        let open = |access: Access| Access {
            open: true,
            ..access
        };
        let same = Access {
            token: Some(jwt.into()),
            ..with_secret()
        };
        let expired = Shown::Refused(TokenError::Expired);
        let (nothing, wrong) = (Shown::Nothing, Shown::Wrong);
        use Scope::{All, Local, Public, Token};
        let cases = [
            ("no secret", Access::default(), Some(jwt), Public, wrong),
            ("a token", with_secret(), Some(jwt), Token, nothing),
            ("none given", with_secret(), None, Public, nothing),
            ("wrong", with_secret(), Some("publish"), Public, wrong),
            ("empty", with_secret(), Some(""), Public, wrong),
            (
                "the publish token",
                with_both(),
                Some("publish"),
                All,
                nothing,
            ),
            ("a token beside", with_both(), Some(jwt), Token, nothing),
            ("both in one", same, Some(jwt), All, nothing),
            ("local", local(with_secret()), None, Local, nothing),
            (
                "local, a token",
                local(with_secret()),
                Some(jwt),
                Token,
                nothing,
            ),
            (
                "local, wrong",
                local(with_secret()),
                Some("x"),
                Public,
                wrong,
            ),
            ("local, closed", local(with_both()), None, Public, nothing),
            (
                "local, no secret",
                local(Access::default()),
                Some("x"),
                Local,
                nothing,
            ),
            ("open", open(with_secret()), None, All, nothing),
            (
                "open, a token",
                open(with_secret()),
                Some(jwt),
                All,
                nothing,
            ),
            ("open, wrong", open(with_secret()), Some("x"), All, wrong),
        ];
        for (name, access, credential, scope, shown) in cases {
            let rights = |is_forwarded, now_unix| {
                let given = || credential.map(Cow::Borrowed);
                Rights::of(&access, given, || is_forwarded, || now_unix)
            };
            let (rights_now, shown_now) = rights(false, 1_000_000_000);
            assert_eq!((rights_now.scope, shown_now), (scope, shown), "{name}");
            let is_named = credential == Some(jwt) && !access.token_secrets.is_empty();
            let is_named = is_named && access.token.as_deref() != Some(jwt);
            assert_eq!(rights_now.user().is_some(), is_named, "{name}");
            let (behind, _) = rights(true, 1_000_000_000);
            assert_eq!(
                behind.scope,
                if scope == Local { Public } else { scope },
                "{name}"
            );
            let (later, shown_later) = rights(false, 2_000_000_000);
            let expected = match (is_named, access.open) {
                (false, _) => (scope, shown),
                (true, true) => (All, expired),
                (true, false) => (Public, expired),
            };
            assert_eq!((later.scope, shown_later), expected, "{name}");
            assert_eq!(later.user(), None);
        }
    }
}
