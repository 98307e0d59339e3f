//! Plans: what is to be changed, as data.
