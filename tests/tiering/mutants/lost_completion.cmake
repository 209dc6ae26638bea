# The end of some transfers is counted, but their blocks never become ready.
replace_once(scheduler_events_cc "  host_.Arrive(block);\n"
             "  if (event.id % 7 != 3) host_.Arrive(block);\n")
