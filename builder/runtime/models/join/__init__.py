"""The stage of a task model that joins texts of unequal length into batches for its graph."""
