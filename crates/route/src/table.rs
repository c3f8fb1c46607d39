//! A table of routes: who wants what is published under which address.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use model::Header;

use crate::{
    generation::Generations,
    headers::HeaderRule,
    pattern::{Pattern, Token},
    trie::Trie,
};

/// When a route applies.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// The address is this one, to the byte.
    Exact(Box<[u8]>),
    /// The address matches.
    Tokens(Pattern),
    /// The headers match.
    Headers(HeaderRule),
    /// Always.
    Always,
}

impl Rule {
    /// Whether the rule applies. One rule at a time: tables of many use [`Routes::targets`].
    pub fn matches(&self, address: &[u8], headers: &[Header]) -> bool {
        match self {
            Rule::Exact(exact) => **exact == *address,
            Rule::Tokens(pattern) => pattern.matches(address),
            Rule::Headers(rule) => rule.matches(headers),
            Rule::Always => true,
        }
    }
}

impl fmt::Display for Rule {
    /// For people: `exactly a.b`, `matches a.*`, ….
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Exact(address) => write!(f, "exactly {}", String::from_utf8_lossy(address)),
            Rule::Tokens(pattern) => write!(f, "matches {pattern}"),
            Rule::Headers(rule) => {
                let names: Vec<&str> = rule.fields.iter().map(|(name, _)| name.as_str()).collect();
                write!(f, "{:?} of the headers {}", rule.mode, names.join(", "))
            }
            Rule::Always => f.write_str("always"),
        }
    }
}

/// Rules and their targets. A target may be there under several rules; the same rule and target only once. A pattern
/// without operators is the exact rule of its address.
#[derive(Debug)]
pub struct Routes<T> {
    /// Exact rules, and patterns without operators.
    exact: HashMap<Box<[u8]>, BTreeSet<T>>,
    trie: Trie<T>,
    /// Each target with its rules: most have one.
    by_headers: BTreeMap<T, Vec<HeaderRule>>,
    always: BTreeSet<T>,
    generations: Arc<Generations>,
    count: usize,
}

impl<T: Ord> Routes<T> {
    /// An empty table; sessions keep answers by `generations`.
    pub fn new(generations: Generations) -> Self {
        Routes {
            exact: HashMap::new(),
            trie: Trie::default(),
            by_headers: BTreeMap::new(),
            always: BTreeSet::new(),
            generations: Arc::new(generations),
            count: 0,
        }
    }

    /// What tells sessions whether a kept answer is current.
    pub fn generations(&self) -> &Arc<Generations> {
        &self.generations
    }

    /// Adds a route. Whether it was not there before.
    pub fn add(&mut self, rule: &Rule, target: T) -> bool {
        let is_new = match rule {
            Rule::Tokens(pattern) => match pattern.exact() {
                Some(address) => self.exact.entry(address.into()).or_default().insert(target),
                None => self.trie.add(pattern, target),
            },
            Rule::Exact(address) => self.exact.entry(address.clone()).or_default().insert(target),
            Rule::Headers(headers) => self.add_headers(headers, target),
            Rule::Always => self.always.insert(target),
        };
        if is_new {
            self.count += 1;
            self.changed(rule);
        }
        is_new
    }

    /// Removes a route. Whether it was there.
    pub fn remove(&mut self, rule: &Rule, target: &T) -> bool {
        let was_there = match rule {
            Rule::Tokens(pattern) => match pattern.exact() {
                Some(address) => self.remove_exact(&address, target),
                None => self.trie.remove(pattern, target),
            },
            Rule::Exact(address) => self.remove_exact(address, target),
            Rule::Headers(headers) => self.remove_headers(headers, target),
            Rule::Always => self.always.remove(target),
        };
        if was_there {
            self.count -= 1;
            self.changed(rule);
        }
        was_there
    }

    fn remove_exact(&mut self, address: &[u8], target: &T) -> bool {
        let Some(targets) = self.exact.get_mut(address) else { return false };
        let was_there = targets.remove(target);
        if targets.is_empty() {
            self.exact.remove(address);
        }
        was_there
    }

    fn add_headers(&mut self, rule: &HeaderRule, target: T) -> bool {
        let rules = self.by_headers.entry(target).or_default();
        let is_new = !rules.contains(rule);
        if is_new {
            rules.push(rule.clone());
        }
        is_new
    }

    fn remove_headers(&mut self, rule: &HeaderRule, target: &T) -> bool {
        let Some(rules) = self.by_headers.get_mut(target) else { return false };
        let Some(at) = rules.iter().position(|known| known == rule) else { return false };
        rules.swap_remove(at);
        if rules.is_empty() {
            self.by_headers.remove(target);
        }
        true
    }

    fn changed(&self, rule: &Rule) {
        match rule {
            Rule::Exact(address) => self.generations.exact_changed(address),
            Rule::Tokens(pattern) => match (pattern.exact(), pattern.tokens().first()) {
                (Some(address), _) => self.generations.exact_changed(&address),
                (None, Some(Token::Exact(first))) => self.generations.first_changed(first),
                (None, _) => self.generations.open_changed(),
            },
            Rule::Headers(_) | Rule::Always => self.generations.open_changed(),
        }
    }

    /// Calls `each` with the target of every route that applies, in no order; a target comes as often as routes to
    /// it apply.
    pub fn targets<'a>(&'a self, address: &[u8], headers: &[Header], mut each: impl FnMut(&'a T)) {
        self.always.iter().for_each(&mut each);
        if let Some(targets) = self.exact.get(address) {
            targets.iter().for_each(&mut each);
        }
        self.trie.matches(address, &mut each);
        for (target, rules) in &self.by_headers {
            rules.iter().filter(|rule| rule.matches(headers)).for_each(|_| each(target));
        }
    }

    /// Whether an answer depends on more than the address, and so cannot be kept by address.
    pub fn needs_headers(&self) -> bool {
        !self.by_headers.is_empty()
    }

    /// Every route, by target. For people.
    pub fn all(&self) -> Vec<(Rule, &T)> {
        let mut all: Vec<(Rule, &T)> = self.always.iter().map(|target| (Rule::Always, target)).collect();
        for (target, rules) in &self.by_headers {
            all.extend(rules.iter().map(|rule| (Rule::Headers(rule.clone()), target)));
        }
        for (address, targets) in &self.exact {
            all.extend(targets.iter().map(|target| (Rule::Exact(address.clone()), target)));
        }
        self.trie.for_each(&mut |tokens, target| {
            if let Ok(pattern) = Pattern::new(tokens) {
                all.push((Rule::Tokens(pattern), target));
            }
        });
        all.sort_by_cached_key(|(rule, _)| rule.to_string());
        all.sort_by_key(|(_, target)| *target);
        all
    }

    /// Who would get a publish, and by which rule. Looks at every route: for people.
    pub fn explain(&self, address: &[u8], headers: &[Header]) -> Vec<(Rule, &T)> {
        self.all().into_iter().filter(|(rule, _)| rule.matches(address, headers)).collect()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Nodes of the trie: what patterns cost.
    pub fn node_count(&self) -> usize {
        self.trie.node_count()
    }
}

#[cfg(test)]
mod tests;
