"""Tables, plots and pages made from result files only."""
