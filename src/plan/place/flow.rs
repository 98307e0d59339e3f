//! Flows of least cost, found by successive shortest paths. All capacities are 1: a path more is a shard more.

use std::collections::VecDeque;

/// A network under construction, and its flow.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Each edge is followed by its reverse.
    edges: Vec<Edge>,
    from: Vec<Vec<usize>>,
}

#[derive(Debug)]
struct Edge {
    to: usize,
    is_free: bool,
    cost: i128,
}

impl Network {
    /// A new point.
    pub(super) fn point(&mut self) -> usize {
        self.from.push(Vec::new());
        self.from.len() - 1
    }

    /// A new edge; returns its number.
    pub(super) fn edge(&mut self, from: usize, to: usize, cost: i128) -> usize {
        let number = self.edges.len();
        for (from, to, is_free, cost) in [(from, to, true, cost), (to, from, false, -cost)] {
            self.from[from].push(self.edges.len());
            self.edges.push(Edge { to, is_free, cost });
        }
        number
    }

    /// Whether the flow uses an edge.
    pub(super) fn is_used(&self, edge: usize) -> bool {
        !self.edges[edge].is_free
    }

    /// Adds paths of least cost from `source` to `sink` until there is none. Costs of the edges that can still be used
    /// backwards are negative, so the paths are found by relaxing (Bellman and Ford).
    pub(super) fn fill(&mut self, source: usize, sink: usize) {
        while let Some(path) = self.shortest(source, sink) {
            for edge in path {
                self.edges[edge].is_free = false;
                self.edges[edge ^ 1].is_free = true;
            }
        }
    }

    fn shortest(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut costs: Vec<Option<i128>> = vec![None; self.from.len()];
        let mut through: Vec<Option<usize>> = vec![None; self.from.len()];
        let mut is_waiting = vec![false; self.from.len()];
        let mut waiting = VecDeque::from([source]);
        costs[source] = Some(0);
        while let Some(point) = waiting.pop_front() {
            is_waiting[point] = false;
            let Some(here) = costs[point] else { continue };
            for number in &self.from[point] {
                let edge = &self.edges[*number];
                let cost = here + edge.cost;
                if edge.is_free && costs[edge.to].is_none_or(|known| cost < known) {
                    costs[edge.to] = Some(cost);
                    through[edge.to] = Some(*number);
                    if !is_waiting[edge.to] {
                        is_waiting[edge.to] = true;
                        waiting.push_back(edge.to);
                    }
                }
            }
        }
        costs[sink]?;
        let mut path = Vec::new();
        let mut at = sink;
        while let Some(edge) = through[at].filter(|_| at != source) {
            path.push(edge);
            at = self.edges[edge ^ 1].to;
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_choice_is_taken_back_if_that_is_cheaper() {
        // Two shards; the first can use both hosts, the second the first host only.
        let mut network = Network::default();
        let [source, one, two, first, second, sink] = [(); 6].map(|()| network.point());
        network.edge(source, one, 0);
        network.edge(source, two, 0);
        let cheap = network.edge(one, first, 0);
        let dear = network.edge(one, second, 5);
        let only = network.edge(two, first, 0);
        network.edge(first, sink, 0);
        network.edge(second, sink, 0);
        network.fill(source, sink);
        assert!(!network.is_used(cheap));
        assert!(network.is_used(dear) && network.is_used(only));
    }
}
