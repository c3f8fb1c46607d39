use model::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::{Cache, HeaderMatch, Syntax};

fn rule(text: &str) -> Rule {
    Rule::Tokens(Pattern::parse(text.as_bytes(), Syntax::ALL).unwrap())
}

fn got(routes: &Routes<u32>, address: &str) -> Vec<u32> {
    let mut targets = Vec::new();
    routes.targets(address.as_bytes(), &[], |target| targets.push(*target));
    targets.sort_unstable();
    targets
}

#[test]
fn every_kind_of_rule_finds_its_targets() {
    let mut routes = Routes::new(Generations::single());
    let headers = HeaderRule { mode: HeaderMatch::Any, fields: vec![("kind".into(), None)] };
    for (rule, target) in [
        (rule("a.b"), 1),
        (rule("a.*"), 2),
        (rule("#"), 3),
        (rule("a.>"), 4),
        (Rule::Exact(b"a.b".as_slice().into()), 5),
        (Rule::Always, 6),
        (Rule::Headers(headers), 7),
    ] {
        assert!(!routes.needs_headers());
        assert!(routes.add(&rule, target));
        assert!(!routes.add(&rule, target));
    }
    assert!(routes.needs_headers());
    assert_eq!(got(&routes, "a.b"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(got(&routes, "b"), [3, 6]);
    let header = Header { name: "kind".into(), value: HeaderValue::Null };
    let mut targets = Vec::new();
    routes.targets(b"b", &[header], |target| targets.push(*target));
    assert!(targets.contains(&7));
}

#[test]
fn a_target_under_several_rules_stays_until_the_last_is_removed() {
    let mut routes = Routes::new(Generations::single());
    routes.add(&rule("a.*"), 1);
    routes.add(&rule("a.b"), 1);
    assert_eq!(got(&routes, "a.b"), [1, 1]);
    assert!(routes.remove(&rule("a.*"), &1));
    assert!(!routes.remove(&rule("a.*"), &1));
    assert_eq!(got(&routes, "a.b"), [1]);
    assert!(routes.remove(&rule("a.b"), &1));
    assert!(routes.is_empty());
}

#[test]
fn an_explanation_names_the_rules() {
    let mut routes = Routes::new(Generations::single());
    for (text, target) in [("order.#", 1), ("order.*.us", 2), ("order.created.us", 3), ("user.>", 4)] {
        routes.add(&rule(text), target);
    }
    let mut why: Vec<(u32, String)> = routes
        .explain(b"order.created.us", &[])
        .into_iter()
        .map(|(rule, target)| (*target, rule.to_string()))
        .collect();
    why.sort();
    let expected = [(1, "matches order.#"), (2, "matches order.*.us"), (3, "exactly order.created.us")];
    assert_eq!(why, expected.map(|(target, text)| (target, text.to_string())));
}

#[test]
fn a_hundred_thousand_patterns_answer_with_theirs_and_leave_nothing_behind() {
    let mut routes = Routes::new(Generations::per_token());
    let texts = |n: u32| {
        let (a, b) = (n % 300, n / 300);
        match n % 4 {
            0 => format!("shop.{a}.order.{b}.*"),
            1 => format!("shop.{a}.*.{b}.>"),
            2 => format!("shop.{a}.#.{b}"),
            _ => format!("*.{a}.order.{b}.#"),
        }
    };
    for n in 0..100_000 {
        assert!(routes.add(&rule(&texts(n)), n));
    }
    assert_eq!(routes.len(), 100_000);
    for n in (0..100_000).step_by(97) {
        let (a, b) = (n % 300, n / 300);
        let expected = if n % 4 == 2 { Vec::new() } else { vec![n] };
        let address = format!("shop.{a}.order.{b}.new");
        assert_eq!(got(&routes, &address), expected, "{address}");
    }
    for n in 0..100_000 {
        assert!(routes.remove(&rule(&texts(n)), &n));
    }
    assert!(routes.is_empty());
    assert_eq!(routes.node_count(), 1);
}

#[test]
fn hostile_patterns_do_not_multiply() {
    let mut routes = Routes::new(Generations::single());
    for len in 1..100 {
        routes.add(&rule(&vec!["#.a"; len].join(".")), len as u32);
        routes.add(&rule(&vec!["*.#"; len].join(".")), 1_000 + len as u32);
    }
    let address = vec!["a"; 400].join(".");
    assert_eq!(got(&routes, &address).len(), 198);
    assert_eq!(got(&routes, &(address + ".b")).len(), 99);
}

fn token() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 2 => Just("*"), 2 => Just("#")]
}

fn pattern_text() -> impl Strategy<Value = String> {
    (proptest::collection::vec(token(), 0..6), any::<bool>()).prop_map(|(mut tokens, has_rest)| {
        if has_rest {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

fn address() -> impl Strategy<Value = String> {
    let token = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just("")];
    proptest::collection::vec(token, 0..7).prop_map(|tokens| tokens.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_pattern_matches_as_its_definition_says(pattern in pattern_text(), address in address()) {
        fn defined(pattern: &[Token], address: &[&[u8]]) -> bool {
            match (pattern, address) {
                ([], []) => true,
                ([Token::Rest], address) => !address.is_empty(),
                ([Token::Many, rest @ ..], address) => {
                    (0..=address.len()).any(|taken| defined(rest, &address[taken..]))
                }
                ([Token::One, rest @ ..], [_, address @ ..]) => defined(rest, address),
                ([Token::Exact(token), rest @ ..], [first, address @ ..]) => {
                    **token == **first && defined(rest, address)
                }
                _ => false,
            }
        }
        let parsed = Pattern::parse(pattern.as_bytes(), Syntax::ALL).unwrap();
        let tokens: Vec<&[u8]> = crate::tokens(address.as_bytes()).collect();
        prop_assert_eq!(parsed.matches(address.as_bytes()), defined(parsed.tokens(), &tokens));
    }

    #[test]
    fn the_table_and_a_kept_answer_agree_with_a_list_of_patterns(
        steps in proptest::collection::vec((pattern_text(), 0u32..3, any::<bool>()), 1..40),
        addresses in proptest::collection::vec(address(), 1..6),
        is_per_token in any::<bool>(),
    ) {
        let generations = if is_per_token { Generations::per_token() } else { Generations::single() };
        let mut routes = Routes::new(generations);
        let mut list: Vec<(Pattern, u32)> = Vec::new();
        let mut cache = Cache::new(4);
        for (text, target, is_added) in steps {
            let pattern = Pattern::parse(text.as_bytes(), Syntax::ALL).unwrap();
            let known = list.iter().position(|(p, t)| *p == pattern && *t == target);
            let rule = Rule::Tokens(pattern.clone());
            if is_added {
                prop_assert_eq!(routes.add(&rule, target), known.is_none());
                if known.is_none() {
                    list.push((pattern, target));
                }
            } else {
                prop_assert_eq!(routes.remove(&rule, &target), known.is_some());
                known.map(|at| list.remove(at));
            }
            for address in &addresses {
                let matches = |(pattern, _): &&(Pattern, u32)| pattern.matches(address.as_bytes());
                let mut expected: Vec<u32> = list.iter().filter(matches).map(|(_, target)| *target).collect();
                expected.sort_unstable();
                prop_assert_eq!(&got(&routes, address), &expected);
                let kept = cache.of(routes.generations(), address.as_bytes(), || got(&routes, address));
                prop_assert_eq!(kept, &expected);
            }
        }
        prop_assert_eq!(routes.len(), list.len());
        let mut all: Vec<(String, u32)> = routes.all().iter().map(|(rule, t)| (rule.to_string(), **t)).collect();
        let mut expected: Vec<(String, u32)> = list
            .iter()
            .map(|(pattern, target)| match pattern.exact() {
                Some(_) => (format!("exactly {pattern}"), *target),
                None => (format!("matches {pattern}"), *target),
            })
            .collect();
        all.sort();
        expected.sort();
        prop_assert_eq!(all, expected);
        for (pattern, target) in list {
            routes.remove(&Rule::Tokens(pattern), &target);
        }
        prop_assert_eq!(routes.node_count(), 1);
    }
}

thread_local! {
    /// How often targets were compared.
    static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[derive(Debug, Clone, Copy)]
struct Counted(u32);

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Counted {}

#[test]
fn a_rule_about_headers_is_added_and_removed_without_a_look_at_all_others() {
    let rule = |value: i64| {
        let fields = vec![("kind".into(), Some(HeaderValue::Int(value)))];
        Rule::Headers(HeaderRule { mode: HeaderMatch::All, fields })
    };
    let mut routes = Routes::new(Generations::single());
    let count = 10_000;
    for number in 0..count {
        assert!(routes.add(&rule(1), Counted(number)));
    }
    assert!(routes.add(&rule(2), Counted(7)), "another rule of the same target");
    assert!(!routes.add(&rule(2), Counted(7)));
    assert_eq!(routes.len(), count as usize + 1);
    assert!(!routes.remove(&rule(3), &Counted(7)) && !routes.remove(&rule(1), &Counted(count)));
    let header = Header { name: "kind".into(), value: HeaderValue::Int(2) };
    let mut found = Vec::new();
    routes.targets(b"", &[header], |target| found.push(target.0));
    assert_eq!(found, [7]);
    for number in 0..count {
        assert!(routes.remove(&rule(1), &Counted(number)));
    }
    assert!(routes.remove(&rule(2), &Counted(7)) && routes.is_empty() && !routes.needs_headers());
    let compared = COMPARED.get();
    assert!(compared < 100 * count as usize, "{compared} comparisons for {count} routes");
}
