# What was read ahead in vain is dropped, but its slot is not given back.
replace_once(source "  ++stats_.discarded;\n  Free(block);\n"
             "  ++stats_.discarded;\n  blocks_[block] = BlockState();\n")
