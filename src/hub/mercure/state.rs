//! The subscribers of a Mercure hub on one reactor.

use std::rc::Rc;

use crate::pubsub::Rules;

use super::view::Views;

/// The subscribers of a hub on one reactor.
pub(crate) struct Mercure {
    views: Rc<Views>,
}

impl Mercure {
    pub(crate) fn new(rules: &Rules) -> Mercure {
        Mercure {
            views: Rc::new(Views::new(rules)),
        }
    }

    pub(super) fn views(&self) -> &Rc<Views> {
        &self.views
    }
}
