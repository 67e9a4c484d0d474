"""What counters class imbalance in every stage: samplers, class weights, mixing ratios, balanced accuracy."""
