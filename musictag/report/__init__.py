"""Tables, figures and pages of a study, from finished runs only."""
