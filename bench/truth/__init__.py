"""A generated lab of people, processes, containers and cards, with an oracle that knows who did what when."""
