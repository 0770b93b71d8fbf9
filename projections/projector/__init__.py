"""Events to rows: the folds, the projector, its runner, and what is skipped."""
