//! Patterns with operators, by token.
//!
//! Matching walks the address token by token with the set of nodes that the tokens so far lead to. A node is in the
//! set once, so the cost is tokens × matching prefixes, whatever the patterns.

use std::collections::{BTreeSet, HashMap};

use crate::pattern::{Pattern, Token, tokens};

type NodeId = u32;

const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
struct Node<T> {
    exact: HashMap<Box<[u8]>, NodeId>,
    one: Option<NodeId>,
    many: Option<NodeId>,
    /// Targets of the patterns that end here with the operator for the rest.
    rest: BTreeSet<T>,
    /// Targets of the patterns that end here.
    targets: BTreeSet<T>,
    /// Whether the node is reached by [`Token::Many`], and so stays for further tokens.
    is_many: bool,
}

impl<T> Node<T> {
    fn new(is_many: bool) -> Self {
        Node {
            exact: HashMap::new(),
            one: None,
            many: None,
            rest: BTreeSet::new(),
            targets: BTreeSet::new(),
            is_many,
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.one.is_none()
            && self.many.is_none()
            && self.rest.is_empty()
            && self.targets.is_empty()
    }

    fn child(&self, token: &Token) -> Option<NodeId> {
        match token {
            Token::Exact(text) => self.exact.get(text).copied(),
            Token::One => self.one,
            Token::Many => self.many,
            Token::Rest => None,
        }
    }

    fn set_child(&mut self, token: &Token, id: Option<NodeId>) {
        match (token, id) {
            (Token::Exact(text), Some(id)) => drop(self.exact.insert(text.clone(), id)),
            (Token::Exact(text), None) => drop(self.exact.remove(text)),
            (Token::One, id) => self.one = id,
            (Token::Many, id) => self.many = id,
            (Token::Rest, _) => {}
        }
    }
}

/// Patterns and their targets.
#[derive(Clone, Debug)]
pub(crate) struct Trie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<NodeId>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Trie { nodes: vec![Node::new(false)], free: Vec::new() }
    }
}

impl<T: Ord> Trie<T> {
    /// Adds a target to a pattern, unless it is there.
    pub(crate) fn add(&mut self, pattern: &Pattern, target: T) -> bool {
        let mut id = ROOT;
        for token in path(pattern) {
            id = match self.node(id).child(token) {
                Some(child) => child,
                None => {
                    let child = self.allot(*token == Token::Many);
                    self.node_mut(id).set_child(token, Some(child));
                    child
                }
            };
        }
        self.targets_mut(id, pattern).insert(target)
    }

    /// Removes a target from a pattern, and the nodes that nothing needs any more.
    pub(crate) fn remove(&mut self, pattern: &Pattern, target: &T) -> bool {
        let mut trail = vec![ROOT];
        for token in path(pattern) {
            let Some(child) = trail.last().and_then(|id| self.node(*id).child(token)) else { return false };
            trail.push(child);
        }
        let Some(last) = trail.last() else { return false };
        if !self.targets_mut(*last, pattern).remove(target) {
            return false;
        }
        for (token, ids) in path(pattern).iter().zip(trail.windows(2)).rev() {
            let [parent, child] = ids else { break };
            if !self.node(*child).is_empty() {
                break;
            }
            self.node_mut(*parent).set_child(token, None);
            self.free.push(*child);
        }
        true
    }

    /// Calls `each` with the targets of every pattern that matches: once per pattern and target.
    pub(crate) fn matches<'a>(&'a self, address: &[u8], mut each: impl FnMut(&'a T)) {
        let (mut now, mut next, mut many) = (Vec::new(), Vec::new(), Vec::new());
        // Below a node for zero or more tokens, one that answers for the rest can be reached at several tokens.
        let mut answered = BTreeSet::new();
        self.enter(ROOT, &mut now, &mut many);
        for token in tokens(address) {
            many.clear();
            for id in now.drain(..) {
                let node = self.node(id);
                if !node.rest.is_empty() && answered.insert(id) {
                    node.rest.iter().for_each(&mut each);
                }
                let exact = if node.exact.is_empty() { None } else { node.exact.get(token).copied() };
                let stays = node.is_many.then_some(id);
                for reached in [exact, node.one, stays].into_iter().flatten() {
                    self.enter(reached, &mut next, &mut many);
                }
            }
            std::mem::swap(&mut now, &mut next);
            if now.is_empty() {
                return;
            }
        }
        for id in now {
            self.node(id).targets.iter().for_each(&mut each);
        }
    }

    /// Adds a node to a set, and those that zero tokens lead to. Only nodes for zero or more tokens can be reached in
    /// two ways; `many` holds those that are in the set.
    fn enter(&self, id: NodeId, set: &mut Vec<NodeId>, many: &mut Vec<NodeId>) {
        let mut id = id;
        loop {
            let node = self.node(id);
            if node.is_many {
                if many.contains(&id) {
                    return;
                }
                many.push(id);
            }
            set.push(id);
            match node.many {
                Some(child) => id = child,
                None => return,
            }
        }
    }

    /// Calls `each` with every pattern and target, in no order.
    pub(crate) fn for_each<'a>(&'a self, each: &mut dyn FnMut(Vec<Token>, &'a T)) {
        let mut open = vec![(ROOT, Vec::new())];
        while let Some((id, tokens)) = open.pop() {
            let node = self.node(id);
            for target in &node.targets {
                each(tokens.clone(), target);
            }
            let with = |token: Token| tokens.iter().cloned().chain([token]).collect::<Vec<Token>>();
            for target in &node.rest {
                each(with(Token::Rest), target);
            }
            open.extend(node.one.map(|child| (child, with(Token::One))));
            open.extend(node.many.map(|child| (child, with(Token::Many))));
            open.extend(node.exact.iter().map(|(text, child)| (*child, with(Token::Exact(text.clone())))));
        }
    }

    /// Nodes in use, the root among them.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn targets_mut(&mut self, id: NodeId, pattern: &Pattern) -> &mut BTreeSet<T> {
        let ends_in_rest = pattern.tokens().last() == Some(&Token::Rest);
        let node = self.node_mut(id);
        if ends_in_rest { &mut node.rest } else { &mut node.targets }
    }

    fn allot(&mut self, is_many: bool) -> NodeId {
        if let Some(id) = self.free.pop() {
            *self.node_mut(id) = Node::new(is_many);
            return id;
        }
        self.nodes.push(Node::new(is_many));
        (self.nodes.len() - 1) as NodeId
    }

    fn node(&self, id: NodeId) -> &Node<T> {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<T> {
        &mut self.nodes[id as usize]
    }
}

/// The tokens that lead to a pattern's node.
fn path(pattern: &Pattern) -> &[Token] {
    match pattern.tokens() {
        [path @ .., Token::Rest] => path,
        path => path,
    }
}
