//! From one address to all streams that store a publish, over as many hops as routes are chained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Hops from the address that was published to: enough for any arrangement that people draw, and an end to the rest.
pub const HOPS_MAX: usize = 16;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hop<N, T> {
    /// To another set of routes.
    Onward(N),
    /// To where it is stored or delivered.
    Target(T),
}

/// What an expansion came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion<T> {
    /// Every target once, nearest first.
    pub targets: Vec<T>,
    /// Whether routes were left unfollowed because they are further away than was asked for.
    pub is_cut: bool,
}

/// Follows routes from `start`, `hops_max` hops far. `hops` adds those that lead on from a node; it is asked once for each
/// node, however many routes lead there, so that circles come to an end.
pub fn expand<N: Ord + Clone, T: Ord + Clone>(
    start: N,
    hops_max: usize,
    mut hops: impl FnMut(&N, &mut Vec<Hop<N, T>>),
) -> Expansion<T> {
    let (mut known, mut taken) = (BTreeSet::from([start.clone()]), BTreeSet::new());
    let mut open = VecDeque::from([(start, 0)]);
    let mut expansion = Expansion { targets: Vec::new(), is_cut: false };
    let mut found = Vec::new();
    while let Some((node, depth)) = open.pop_front() {
        hops(&node, &mut found);
        for hop in found.drain(..) {
            match hop {
                Hop::Target(target) => {
                    if taken.insert(target.clone()) {
                        expansion.targets.push(target);
                    }
                }
                Hop::Onward(next) if depth == hops_max => expansion.is_cut |= !known.contains(&next),
                Hop::Onward(next) => {
                    if known.insert(next.clone()) {
                        open.push_back((next, depth + 1));
                    }
                }
            }
        }
    }
    expansion
}

/// A target, and one of the shortest ways there: each set of routes on it, with why its route onward applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way<N, T, W> {
    /// Who gets it.
    pub target: T,
    /// From the address that was published to.
    pub steps: Vec<(N, W)>,
}

/// The same targets as [`expand`] finds within [`HOPS_MAX`] hops, in the same order, each with the way there. `hops` adds routes with why they apply
/// ([`crate::Routes::explain`] knows). For people.
pub fn explain<N: Ord + Clone, T: Ord + Clone, W: Clone>(
    start: N,
    mut hops: impl FnMut(&N, &mut Vec<(W, Hop<N, T>)>),
) -> Vec<Way<N, T, W>> {
    let mut ways: BTreeMap<N, Vec<(N, W)>> = BTreeMap::from([(start.clone(), Vec::new())]);
    let mut reasons: BTreeMap<T, (N, W)> = BTreeMap::new();
    let expansion = expand(start, HOPS_MAX, |node, out| {
        let mut found = Vec::new();
        hops(node, &mut found);
        for (why, hop) in found {
            match &hop {
                Hop::Target(target) => {
                    reasons.entry(target.clone()).or_insert_with(|| (node.clone(), why));
                }
                Hop::Onward(next) if !ways.contains_key(next) => {
                    let mut way = ways.get(node).cloned().unwrap_or_default();
                    way.push((node.clone(), why));
                    ways.insert(next.clone(), way);
                }
                Hop::Onward(_) => {}
            }
            out.push(hop);
        }
    });
    let way = |target: T| {
        let (node, why) = reasons.remove(&target)?;
        let mut steps = ways.get(&node).cloned().unwrap_or_default();
        steps.push((node, why));
        Some(Way { target, steps })
    };
    expansion.targets.into_iter().filter_map(way).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(links: &[(u32, u32)], stores: &[(u32, &'static str)]) -> Expansion<&'static str> {
        expand(0, HOPS_MAX, |node, out| {
            out.extend(links.iter().filter(|(from, _)| from == node).map(|(_, to)| Hop::Onward(*to)));
            out.extend(
                stores.iter().filter(|(from, _)| from == node).map(|(_, target)| Hop::Target(*target)),
            );
        })
    }

    #[test]
    fn each_target_comes_once_over_whatever_ways() {
        let links = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 0), (3, 3)];
        let stores = [(0, "a"), (1, "b"), (2, "b"), (3, "a"), (3, "c")];
        assert_eq!(run(&links, &stores), Expansion { targets: vec!["a", "b", "c"], is_cut: false });
    }

    #[test]
    fn sixteen_hops_are_followed_and_no_more() {
        let links: Vec<(u32, u32)> = (0..20).map(|node| (node, node + 1)).collect();
        for (at, is_reached) in [(15, true), (16, true), (17, false)] {
            let expansion = run(&links, &[(at, "far")]);
            assert_eq!(!expansion.targets.is_empty(), is_reached, "{at} hops");
            assert!(expansion.is_cut);
        }
        assert!(!run(&links[..16], &[]).is_cut);
    }

    #[test]
    fn a_way_back_at_the_last_hop_is_no_cut() {
        let mut links: Vec<(u32, u32)> = (0..16).map(|node| (node, node + 1)).collect();
        links.push((16, 0));
        assert!(!run(&links, &[]).is_cut);
    }

    #[test]
    fn an_explanation_names_the_way_to_each_target() {
        let ways = explain("in", |node, out| match *node {
            "in" => out.extend([("first", Hop::Onward("mid")), ("kept", Hop::Target("log"))]),
            _ => out.extend([
                ("back", Hop::Onward("in")),
                ("all", Hop::Target("log")),
                ("some", Hop::Target("queue")),
            ]),
        });
        let log = Way { target: "log", steps: vec![("in", "kept")] };
        let queue = Way { target: "queue", steps: vec![("in", "first"), ("mid", "some")] };
        assert_eq!(ways, [log, queue]);
    }
}
