//! Breadth first through all states, with a trace to the first that is wrong.

use super::Rules;
use super::step::Step;
use super::world::{Terminal, World};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What was seen.
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) ends: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {} steps, {} ends", self.states, self.steps, self.ends)
    }
}

/// Visits all states. The error begins with the invariant that does not hold, and tells how the world came there.
pub(super) fn explore(rules: &Rules, mut first: World) -> Result<Found, String> {
    let mut known: HashMap<u64, usize> = HashMap::from([(name(&mut first), 0)]);
    let mut came: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut back: Vec<Vec<u32>> = vec![Vec::new()];
    let mut queue = VecDeque::from([first]);
    let mut ends = Vec::new();
    let (mut at, mut steps) = (0, 0);
    while let Some(world) = queue.pop_front() {
        if world.is_at_end() {
            ends.push(at);
        }
        for step in world.steps() {
            let mut next = match world.after(rules, step) {
                Ok(Some(next)) => next,
                Ok(None) => continue,
                Err(broken) => return Err(format!("{broken}\n{}\nthen {step:?}", trace(&came, at))),
            };
            steps += 1;
            let fresh = known.len();
            let place = *known.entry(name(&mut next)).or_insert(fresh);
            if place == fresh {
                came.push((at, Some(step)));
                back.push(Vec::new());
                queue.push_back(next);
            }
            back[place].push(u32::try_from(at).unwrap());
        }
        at += 1;
    }
    // From where can no end be reached?
    let mut good = vec![false; known.len()];
    let mut queue: Vec<usize> = ends.clone();
    while let Some(place) = queue.pop() {
        if !std::mem::replace(&mut good[place], true) {
            queue.extend(back[place].iter().map(|place| usize::try_from(*place).unwrap()));
        }
    }
    if let Some(stuck) = good.iter().position(|good| !good) {
        return Err(format!("stuck\n{}", trace(&came, stuck)));
    }
    Ok(Found {
        states: known.len(),
        steps,
        ends: ends.len(),
    })
}

/// The world's name. Terminals are alike: worlds that differ in their order only are one.
fn name(world: &mut World) -> u64 {
    world.terminals.iter_mut().for_each(Terminal::renumber);
    world.terminals.sort_by_cached_key(number);
    number(world)
}

fn number(thing: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    hasher.finish()
}

fn trace(came: &[(usize, Option<Step>)], mut at: usize) -> String {
    let mut lines = Vec::new();
    while let (before, Some(step)) = came[at] {
        lines.push(format!("{step:?}"));
        at = before;
    }
    lines.reverse();
    lines.join("\n")
}
