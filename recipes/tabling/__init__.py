"""What recipes/table.py is made of: plans, the work on their cells, its view, the results kept, the report."""
