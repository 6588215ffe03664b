//! The part of a scenario that says who is whose neighbour. How each is made: [`crate::topology`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is whose neighbour: requests go between neighbours only. A graph that would fall apart gets the edges it lacks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Topology {
    /// Everybody is everybody's.
    #[default]
    FullMesh,
    /// Node 0 is in the middle.
    Star,
    /// One after the other.
    Line,
    /// A line whose ends are neighbours.
    Ring,
    /// Rows of this many.
    Grid {
        /// Nodes in a row.
        width: u32,
    },
    /// Each has so many below it.
    Tree {
        /// Children of each.
        children: u32,
    },
    /// Each has so many neighbours, drawn by lot.
    RandomRegular {
        /// Neighbours of each.
        degree: u32,
    },
    /// Each pair with this probability (Erdős and Rényi).
    ErdosRenyi {
        /// The probability.
        probability: f64,
    },
    /// A ring where each knows the nearest ones, with some edges moved by chance: a small world (Watts and Strogatz).
    WattsStrogatz {
        /// Nearest ones on each side.
        nearest: u32,
        /// The share of edges that are moved.
        rewired: f64,
    },
    /// Newcomers prefer those who have many neighbours (Barabási and Albert).
    BarabasiAlbert {
        /// Edges of each newcomer.
        edges: u32,
    },
    /// Nodes at random places in a square of side 1 that are not farther apart than this.
    RandomGeometric {
        /// The distance.
        radius: f64,
    },
}
