# The end of some transfers is counted, but their blocks never become ready.
replace_once(source "state.state = State::kReady;"
             "if (event.id % 7 != 3) state.state = State::kReady;")
