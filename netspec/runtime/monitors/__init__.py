"""What a run shows of itself while it trains: TensorBoard, hooks, maps, trackers."""
