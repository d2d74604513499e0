"""Pure decisions: (task, fact) -> (task, effects). Nothing here reads a clock, draws a number or touches a wire."""
