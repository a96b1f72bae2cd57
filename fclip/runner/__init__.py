"""The contract of every stage: tasks, output folders, workers, workspace, what a command reports."""
