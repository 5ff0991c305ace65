//! The rules of the hub's topics of Mercure.

use crate::hub::parts::HubOptions;
use crate::pubsub::{Rule, Rules};

#[cfg(feature = "cable")]
use super::topic::PUBLIC;
use super::topic::{IDS, PRIVATE};

/// The ids that are kept in each of the 256 topics of ids.
const IDS_MAX: u32 = 1000;

/// Puts the rules of Mercure's topics in front of those of others, so that none of these makes a private update public.
/// Rules whose pattern begins with `mercure-private:` hold for these, and are private.
pub(crate) fn with_rules(mut options: HubOptions) -> HubOptions {
    if options.mercure.is_none() {
        return options;
    }
    let ages = options.rules.iter().map(|(_, rule)| rule.history_age);
    let ids = Rule {
        history_count: IDS_MAX,
        // An id is of use as long as something that follows on it is kept.
        history_age: ages.fold(Rule::default().history_age, |longest, age| longest.max(age)),
        is_private: true,
        ..Rule::default()
    };
    let private = |rule: &Rule| Rule {
        is_private: true,
        clients_publish: false,
        ..rule.clone()
    };
    let given = options.rules.iter();
    let given: Vec<_> = given
        .map(|(pattern, rule)| (pattern.to_owned(), rule.clone()))
        .collect();
    let (own, others): (Vec<_>, Vec<_>) = given
        .into_iter()
        .partition(|(pattern, _)| pattern.starts_with(PRIVATE));
    let own = own
        .into_iter()
        .map(|(pattern, rule)| (pattern, private(&rule)));
    let last = [
        (format!("{PRIVATE}*"), private(&Rule::default())),
        (format!("{IDS}*"), ids),
    ];
    let mut all = Rules::new();
    for (pattern, rule) in own.chain(last).chain(others) {
        if let Err(error) = all.add(&pattern, rule) {
            log::error!("the rule of {pattern:?} does not hold: {error}");
        }
    }
    options.rules = all;
    options
}

/// The rule of updates that are not private, where Mercure is on: another role makes topics without a rule private.
#[cfg(feature = "cable")]
pub(crate) fn public_rule(options: &HubOptions) -> Option<(String, Rule)> {
    let is_on = options.mercure.is_some();
    is_on.then(|| (format!("{PUBLIC}*"), Rule::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mercure::MercureOptions;
    use crate::hub::mercure::topic::id_name;

    #[test]
    fn rules_keep_private_updates_private() {
        let mut options = HubOptions::default();
        options.rules.add_text("*=history=5,age=1000").unwrap();
        let given = "mercure-private:/a/*=history=7,client-publish";
        options.rules.add_text(given).unwrap();
        assert_eq!(with_rules(options.clone()).rules, options.rules);
        options.mercure = Some(MercureOptions::default());
        let rules = with_rules(options).rules;
        let own = rules.of("mercure-private:/a/b");
        assert!(own.is_private && own.history_count == 7 && !own.clients_publish);
        let other = rules.of("mercure-private:b");
        assert!(other.is_private && other.history_count == 100);
        let ids = rules.of(&id_name("x"));
        assert!(ids.is_private && ids.history_age.as_secs() == 1000);
        assert_eq!(rules.of("mercure:b").history_count, 5);
    }
}
