"""For each cure that the source can print (`tests.cli.cures`), the test that brings its state about."""
# ruff: noqa: E501

from __future__ import annotations

HERE = "tests/cli/test_cures.py::"
GOES_ON = f"{HERE}test_once_the_cause_of_a_halt_is_gone_its_cure_goes_on_where_no_kbsync_runs"
HOUSE = "tests/cli/test_failures.py::test_the_cures_that_are_pasted_cure"
WRONG = "tests/cli/test_failures.py::test_a_command_says_what_it_cannot_do_and_what_to_do"
ABOUT_ONE = f"{HERE}test_what_to_do_about_a_document_that_failed"
BASES = f"{HERE}test_bases_that_lack_are_listed_and_made"
APPS = f"{HERE}test_applications_that_lack_are_made_and_asked"
APPROVED = "tests/cli/test_once.py::test_a_mass_deletion_is_held_and_the_cure_lets_exactly_it_go"
LISTED = "tests/cli/test_once.py::test_what_failed_for_one_reason_is_one_line_with_the_first_of_them"

CASES = {
    "cli/apps.py: ask QUESTION --app {}": APPS,
    "cli/apps.py: kb app create NAME": APPS,
    "cli/asking.py: --once": ABOUT_ONE,
    "cli/checkup/places.py: chmod go-rwx {}": f"{HERE}test_rights_that_are_too_wide_are_taken_away",
    "cli/checkup/service.py: --once --mirror {} | {}": "tests/cli/test_doctor.py::test_a_refused_key_is_told_with_its_setting_and_a_cure_to_paste",
    "cli/choosing.py: --once": WRONG,
    "cli/choosing.py: name a folder with --folder DIR, or write a config with: kbsync init DIR": f"{HERE}test_without_a_config_one_is_begun",
    "cli/choosing.py: to set it aside and make it anew, run: {}": WRONG,
    "cli/ending.py: explain PATH": ABOUT_ONE,
    "cli/ending.py: retry": ABOUT_ONE,
    "cli/ending.py: status --documents": LISTED,
    "cli/kb.py: kb create NAME": BASES,
    "cli/once.py: --once": f"{HERE}test_a_pass_that_was_interrupted_is_gone_on_with",
    "cli/once.py: search QUERY": f"{HERE}test_what_was_mirrored_is_searched",
    "cli/reported.py: explain PATH": ABOUT_ONE,
    "cli/reported.py: retry": ABOUT_ONE,
    "cli/unfinished.py: --once": "tests/cli/test_unfinished.py::test_the_command_has_the_options_in_use_and_helps",
    "engine/attach.py: approve {}": HOUSE,
    "engine/attach.py: kbsync verify --repair --mirror {}": HOUSE,
    "engine/attach.py: retry --mirror {}": GOES_ON,
    "engine/explain.py: retry {}": ABOUT_ONE,
    "engine/mirror.py: --once --mirror {}": HOUSE,
    "engine/mirror.py: retry --mirror {}": HOUSE,
    "engine/polling.py: kbsync retry --mirror {}": HOUSE,
    "engine/status.py: approve {}": APPROVED,
    "engine/worker.py: kbsync retry --mirror {}": HOUSE,
    "targets/zhipu/api.py: retry": GOES_ON,
    "targets/zhipu/bases.py: kb list": BASES,
    "targets/zhipu/knowledge.py: retry": GOES_ON,
    "targets/zhipu/target.py: retry": HOUSE,
    "targets/zhipu/uploading.py: retry": GOES_ON,
}
"""The test that pastes each."""

NEEDS_ROOT = {
    "cli/checkup/places.py: max_user_watches": "tests/cli/test_doctor.py::test_the_kernels_limit_comes_with_the_command_that_raises_it",
    "source/obstacles.py: max_queued_events": "tests/source/test_watch_limits.py::test_each_error_at_start_names_its_cure",
    "source/obstacles.py: max_user_instances": "tests/source/test_watch_limits.py::test_each_error_at_start_names_its_cure",
    "source/obstacles.py: max_user_watches": "tests/source/test_watch_limits.py::test_each_error_at_start_names_its_cure",
}
"""Commands that change the machine: the test that holds their words to the state that prints them."""

WORDS = {
    "cli/init.py: init takes the folder as its argument: kbsync init DIR": WRONG,
    "cli/open.py: no search is remembered: {}; print paths with: kbsync search QUERY --files": WRONG,
    "cli/open.py: the last search has {}; search again: kbsync search QUERY": "tests/cli/test_live.py::test_a_search_on_a_terminal_numbers_its_hits_and_open_finds_them",
    "cli/program.py: goes with --once and without a command; or run: kbsync plan": "tests/cli/test_choosing.py::test_options_of_a_pass_go_with_a_pass",
    "cli/program.py: takes no command: run `kbsync --once`, then `kbsync {} …`": "tests/cli/test_choosing.py::test_once_with_a_command_is_told_as_two_commands",
    "cli/search.py: the query is empty; say what to look for, or type it: kbsync search -i": WRONG,
    "targets/local/slots.py: set embedding.dimensions in the config: documents are then indexed anew": "tests/cli/test_failures.py::test_what_a_disk_or_a_model_reports_is_a_halt_with_a_cure",
    "targets/vectors/judging.py: correct embedding.model, embedding.dimensions or embedding.type in the config": "tests/cli/test_failures.py::test_what_a_disk_or_a_model_reports_is_a_halt_with_a_cure",
}
"""What no command can do, or a command whose words depend on the person: the test that shows it said."""

NOT_YET = (
    "cli/ask.py: the question is empty; say what to ask, or type it: kbsync ask -i",
    "cli/checkup/copies.py: forget {} --yes",
    "cli/checkup/copies.py: rm -r {}",
    "cli/checkup/copies.py: rm {}*",
    "cli/checkup/machine.py: df -h {}",
    "cli/checkup/machine.py: pip install {}",
    "cli/checkup/machine.py: systemctl --user daemon-reload | sudo systemctl daemon-reload",
    "cli/checkup/places.py: chmod o-rwx {}",
    "cli/checkup/places.py: max_user_instances",
    "cli/checkup/places.py: mount it, or correct folder: in the config",
    "cli/checkup/places.py: restart the daemon that holds the state",
    "cli/checkup/places.py: sudo chown -R {} {}",
    "cli/checkup/places.py: sudo install -d -m 700 -o {} {}",
    "cli/checkup/service.py: curl -sSI {}",
    "cli/checkup/service.py: delete documents there, or get more space",
    "cli/checkup/service.py: getent ahosts {}",
    "cli/checkup/service.py: name the authority with ca_file: in the config, or correct base_url",
    "cli/choosing.py: status",
    "cli/counter.py: retry --mirror {}",
    "cli/ending.py: approve {}",
    "cli/following.py: status",
    "cli/inquiry.py: no application answers from {}; make one with: kbsync kb app create NAME\nor do without one: --model {} asks a model, with the passages that a search finds",
    "cli/reported.py: approve {}",
    "cli/reported.py: status --documents",
    "engine/auditing.py: kbsync verify --repair --mirror {}",
    "engine/deletions.py: approve {}",
    "engine/explain.py: --once",
    "engine/explain.py: approve {}",
    "engine/explain.py: status --documents",
    "engine/explain.py: verify --repair --mirror {}",
    "engine/renewals.py: approve {}",
    "engine/status.py: verify --mirror {}",
    "engine/views/footing.py: kbsync verify --repair --mirror {}",
    "notify/teller.py: retry --mirror {}",
    "targets/gptbots/api.py: retry",
    "targets/gptbots/bases.py: kb list",
    "targets/gptbots/target.py: retry",
    "targets/local/embed.py: reinstall it: pip install --force-reinstall --no-deps 'wordllama>=0.2.2.post0,<0.2.3'",
    "targets/local/parse_pool.py: the parser does not start ({}); run `kbsync doctor`",
    "targets/vectors/embedding.py: correct embedding.dimensions or embedding.model in the config",
    "targets/vectors/judging.py: correct {}.base_url (it is what comes before {}) or {}.model",
    "targets/vectors/judging.py: put a valid {}.api_key (or api_key_file) into the config",
    "targets/vectors/judging.py: put an embedding.api_key that may use the model into the config",
    "targets/vectors/judging.py: top up the account behind {}.api_key",
    "targets/zhipu/applications.py: kb app list",
    "web/places.py: cannot be listened on ({}); choose another",
    "web/places.py: is in use; choose another port, or end the program that ss -ltnp 'sport = :{}' names",
    "web/places.py: is no address of this machine; choose one that ip addr shows, or 127.0.0.1",
    "web/places.py: may not be used by this user; choose a port from 1024 on",
)
"""Those that no test pastes yet in the state that prints them. The list may only become shorter."""
