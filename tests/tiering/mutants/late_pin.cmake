# A step is run before its blocks are pinned: their slots count as free while it computes.
replace_once(source "++blocks_[block].pins;" "static_cast<void>(block);")
replace_once(source "  machine_.Run(step, ComputeDevice::kCpu);\n"
             "  machine_.Run(step, ComputeDevice::kCpu);
  for (BlockId block : program_.steps[step].needs) {
    if (Streams(block)) Free(block);
  }
")
replace_once(source "    --state.pins;\n" "    if (Streams(block)) continue;\n")
