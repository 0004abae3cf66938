"""For each cure that the source can print (`tests.cli.cures`), the test that brings its state about."""
# ruff: noqa: E501

from __future__ import annotations

HERE = "tests/cli/test_cures.py::"
DOCTOR = "tests/cli/test_cures_of_doctor.py::"
COMMANDS = "tests/cli/test_cures_of_commands.py::"
MIRRORS = "tests/cli/test_cures_of_mirrors.py::"
IN_WORDS = "tests/cli/test_cures_in_words.py::"
OWNERS = "tests/security/test_owners.py::"

GOES_ON = f"{HERE}test_once_the_cause_of_a_halt_is_gone_its_cure_goes_on_where_no_kbsync_runs"
TROUBLED = "tests/cli/test_failures.py::test_the_cures_that_are_pasted_cure"
WRONG = "tests/cli/test_failures.py::test_a_command_says_what_it_cannot_do_and_what_to_do"
DISK = "tests/cli/test_failures.py::test_what_a_disk_or_a_model_reports_is_a_halt_with_a_cure"
ABOUT_ONE = f"{HERE}test_what_to_do_about_a_document_that_failed"
BASES = f"{HERE}test_bases_that_lack_are_listed_and_made"
APPS = f"{HERE}test_applications_that_lack_are_made_and_asked"
RIGHTS = f"{DOCTOR}test_rights_are_given_and_taken_away"
FULL = f"{DOCTOR}test_how_full_a_disk_is_is_shown"
LIMITS = f"{DOCTOR}test_limits_of_the_kernel_are_raised"
WATCHED = f"{DOCTOR}test_what_cannot_be_watched_can_be_once_its_cure_was_pasted"
NO_BASE = f"{COMMANDS}test_without_a_base_in_the_config_those_of_the_account_are_listed_or_one_is_made"
TYPED = f"{COMMANDS}test_another_command_is_named_with_the_options_in_use"
HELD = f"{MIRRORS}test_what_is_held_is_listed_and_let_go_also_where_the_mirror_halts_for_something_else"
DAEMON = f"{MIRRORS}test_beside_a_daemon_what_it_held_is_let_go_as_its_log_says"
EXPLAINED = f"{MIRRORS}test_what_explain_says_to_run_is_the_right_thing"
AUDITED = f"{MIRRORS}test_what_an_audit_of_the_daemon_found_is_shown_and_mended_with_what_it_says"
PAGE = f"{MIRRORS}test_the_page_has_its_commands_from_the_daemon_with_the_options_in_use"
AT_GPTBOTS = f"{MIRRORS}test_a_base_and_a_key_of_another_service_are_tried_again"
VECTORS = f"{IN_WORDS}test_what_is_wrong_with_a_service_of_vectors_names_the_key_of_the_config"
SYSTEM = f"{IN_WORDS}test_an_error_of_the_system_names_the_place"
CLOSED = f"{IN_WORDS}test_a_state_that_cannot_be_opened_names_its_file"
ADDRESS = f"{IN_WORDS}test_an_address_that_cannot_be_had_names_the_key"

CASES = {
    "cli/commands/kb/applications.py: ask QUESTION --app {}": APPS,
    "cli/commands/kb/applications.py: kb app create NAME": APPS,
    "cli/commands/ask.py: ask -i": f"{COMMANDS}test_a_question_is_typed_where_none_was_given",
    "cli/commands/doctor/machine.py: forget {}": "tests/cli/test_copies.py::test_doctor_names_the_copy_of_a_mirror_that_left_the_config",
    "cli/commands/doctor/machine.py: rm -r {}": "tests/cli/test_copies.py::test_doctor_names_a_copy_beside_the_mirror_of_a_config_with_the_command_that_removes_it",
    "cli/commands/doctor/machine.py: rm {}*": "tests/cli/test_copies.py::test_doctor_names_what_was_set_aside_damaged",
    "cli/commands/doctor/machine.py: df -h {}": FULL,
    "cli/commands/doctor/machine.py: df -i {}": FULL,
    "cli/commands/doctor/machine.py: install *missing": f"{DOCTOR}test_a_library_that_lacks_is_installed",
    "cli/commands/doctor/machine.py: sudo systemctl restart {}": f"{DOCTOR}test_credentials_that_cannot_be_read_are_handed_over_anew",
    "cli/commands/doctor/machine.py: systemctl --user restart {}": f"{DOCTOR}test_credentials_that_cannot_be_read_are_handed_over_anew",
    "cli/commands/doctor/machine.py: chmod -R u+rX {}": RIGHTS,
    "cli/commands/doctor/machine.py: chmod go-rwx {}": RIGHTS,
    "cli/commands/doctor/machine.py: chmod o-rwx {}": RIGHTS,
    "cli/commands/doctor/machine.py: if process {} is the daemon, have it read its config again: kill -HUP {}": f"{DOCTOR}test_a_daemon_that_listens_on_nothing_reads_its_config_again",
    "cli/commands/doctor/machine.py: max_user_instances": LIMITS,
    "cli/commands/doctor/machine.py: max_user_watches": LIMITS,
    "cli/commands/doctor/machine.py: sudo chown -R {} {}": RIGHTS,
    "cli/commands/doctor/machine.py: sudo install -d -m 700 -o {} {}": RIGHTS,
    "cli/commands/doctor/machine.py: sudo setfacl --recursive --modify u:{}:rX {}": RIGHTS,
    "cli/commands/doctor/service.py: --once --mirror {}": f"{DOCTOR}test_a_corrected_key_is_tried_with_the_cure_of_a_refused_one",
    "cli/commands/doctor/service.py: curl -sSI {}": f"{DOCTOR}test_a_service_that_is_away_is_asked_by_another_program",
    "cli/commands/doctor/service.py: getent ahosts {}": f"{DOCTOR}test_a_host_without_an_address_is_looked_up_by_another_program",
    "cli/commands/doctor/service.py: sudo timedatectl set-ntp true": f"{DOCTOR}test_a_clock_that_is_wrong_is_set_by_the_network",
    "cli/context.py: --once": WRONG,
    "cli/context.py: kb create NAME": NO_BASE,
    "cli/context.py: kb list": NO_BASE,
    "cli/context.py: name a folder with --folder DIR, or write a config with: kbsync init DIR": f"{HERE}test_without_a_config_one_is_begun",
    "cli/context.py: status": f"{COMMANDS}test_who_searches_during_the_first_pass_is_told_how_to_see_it_go",
    "cli/context.py: to set it aside and start with an empty one, run: {}": WRONG,
    "cli/commands/kb/bases.py: retry --mirror {}": f"{COMMANDS}test_who_would_retry_all_at_a_service_that_cannot_is_told_how_to_retry_the_mirrors",
    "cli/commands/ask.py: search {} {}": TYPED,
    "cli/report.py: approve {}": HELD,
    "cli/report.py: explain PATH": ABOUT_ONE,
    "cli/report.py: retry": ABOUT_ONE,
    "cli/report.py: status --documents": HELD,
    "cli/commands/status_watch.py: status": f"{COMMANDS}test_a_screen_too_small_for_all_names_the_command_that_tells_it",
    "cli/commands/init.py: init {}": f"{COMMANDS}test_init_with_an_option_for_the_folder_is_told_as_it_is_meant",
    "cli/commands/ask.py: kb app create NAME --mirror {}": f"{COMMANDS}test_a_question_without_an_application_names_how_to_make_one",
    "cli/commands/kb/bases.py: kb create NAME": BASES,
    "cli/commands/once.py: --once": f"{HERE}test_a_pass_that_was_interrupted_is_gone_on_with",
    "cli/commands/once.py: search QUERY": f"{HERE}test_what_was_mirrored_is_searched",
    "cli/commands/open.py: search QUERY --files": TYPED,
    "cli/main.py: --once": TYPED,
    "cli/main.py: plan": TYPED,
    "cli/commands/search.py: search -i": f"{COMMANDS}test_a_query_is_typed_where_none_was_given",
    "cli/commands/search.py: search QUERY": f"{COMMANDS}test_a_search_is_made_again_where_the_last_one_was",
    "cli/report.py: --once": "tests/cli/test_status_lag.py::test_the_command_has_the_options_in_use_and_helps",
    "engine/attach.py: approve {}": TROUBLED,
    "engine/attach.py: kbsync verify --repair --mirror {}": TROUBLED,
    "engine/attach.py: retry --mirror {}": GOES_ON,
    "engine/audit.py: kbsync verify --repair --mirror {}": AUDITED,
    "engine/mirror.py: approve {}": DAEMON,
    "engine/explain.py: --once": EXPLAINED,
    "engine/explain.py: approve {}": EXPLAINED,
    "engine/explain.py: retry {}": ABOUT_ONE,
    "engine/explain.py: status --documents": f"{MIRRORS}test_explain_of_a_folder_says_how_all_that_failed_in_it_is_listed",
    "engine/explain.py: verify --repair --mirror {}": EXPLAINED,
    "engine/status.py: --once --mirror {}": GOES_ON,
    "engine/status.py: kbsync retry --mirror {}": AT_GPTBOTS,
    "engine/status.py: retry --mirror {}": f"{HERE}test_beside_a_running_kbsync_the_cure_of_the_same_halt_is_another",
    "engine/mirror.py: --once --mirror {}": TROUBLED,
    "engine/mirror.py: retry --mirror {}": TROUBLED,
    "engine/status.py: approve {}": TROUBLED,
    "engine/status.py: verify --mirror {}": AUDITED,
    "server/notify.py: retry --mirror {}": f"{MIRRORS}test_who_is_told_of_a_failure_is_told_how_it_is_tried_again",
    "source/observer.py: echo {} | sudo tee /etc/sysctl.d/60-kbsync-{}.conf && sudo sysctl -w {}": WATCHED,
    "source/observer.py: max_user_instances": WATCHED,
    "source/observer.py: max_user_watches": WATCHED,
    "source/observer.py: sudo prlimit --pid {} --nofile={}:{}": f"{DOCTOR}test_a_process_that_used_up_its_descriptors_gets_more_while_it_runs",
    "state/lock.py: chmod -R u+rwX {}": f"{OWNERS}test_what_is_shut_to_its_own_user_is_opened_again",
    "state/lock.py: sudo chown -R {} {}": f"{OWNERS}test_a_file_that_root_left_is_told_with_its_cure",
    "targets/gptbots/manage.py: kb list": f"{MIRRORS}test_bases_of_another_service_are_listed",
    "index/embed.py: install 'wordllama'": f"{DOCTOR}test_a_model_that_lacks_a_file_is_installed_anew",
    "index/embed.py: install 'onnxruntime'": f"{DOCTOR}test_a_package_that_onnx_needs_is_installed",
    "index/fence/parser.py: install 'kreuzberg'": f"{DOCTOR}test_a_parser_that_does_not_start_is_installed_anew",
    "index/errors.py: df {} {}": DISK,
    "index/errors.py: ls -ld {}": DISK,
    "targets/zhipu/manage.py: kb app list": f"{COMMANDS}test_an_application_that_may_have_been_made_is_looked_for",
    "targets/zhipu/manage.py: kb list": BASES,
    "server/listener.py: is in use; choose another port, or end the program that ss -ltnp 'sport = :{}' names": f"{DOCTOR}test_a_port_in_use_names_who_uses_it",
    "server/listener.py: is no address of this machine; choose one that ip addr shows, or 127.0.0.1": f"{DOCTOR}test_an_address_of_another_machine_names_what_shows_those_of_this_one",
    "server/views.py: plan": PAGE,
    "server/views.py: status": PAGE,
    "server/views.py: status --documents": PAGE,
}
"""The test that pastes each."""

WORDS = {
    "cli/commands/doctor/command.py: look for a disk or a network that hangs": "tests/cli/test_doctor.py::test_a_check_that_hangs_or_breaks_costs_no_other_its_turn",
    "cli/commands/doctor/machine.py: mount it, or correct `folder` in the config": "tests/cli/test_doctor.py::test_people_read_a_line_each_and_quietly_only_what_is_not_well",
    "cli/commands/doctor/machine.py: restart the daemon that holds the state": f"{DOCTOR}test_of_a_holder_that_cannot_be_named_it_is_told_what_to_restart",
    "cli/commands/doctor/service.py: delete documents at {}, or get more space for the account": f"{DOCTOR}test_an_account_that_is_full_names_where_documents_are_deleted",
    "cli/commands/doctor/service.py: name the authority with ca_file: in the config, or correct base_url": "tests/cli/test_doctor_tls.py::test_one_that_is_not_trusted_comes_with_the_cure",
    "cli/commands/doctor/service.py: tell the operator of the service": "tests/cli/test_doctor_tls.py::test_a_certificate_that_ends_soon_is_a_warning",
    "cli/exit_codes.py: ; free some inodes (df -i)": f"{IN_WORDS}test_a_disk_without_inodes_is_told_with_what_shows_them",
    "cli/exit_codes.py: ; free some space": SYSTEM,
    "cli/exit_codes.py: ; look at the disk and its kernel log": SYSTEM,
    "cli/exit_codes.py: ; name a place that can be written": SYSTEM,
    "cli/exit_codes.py: ; raise the limit of open files (ulimit -n)": SYSTEM,
    "cli/exit_codes.py: ; run as the user it belongs to": SYSTEM,
    "config/reader.py: pages are not fetched by time any more; remove the key, and run kbsync retry PATH to fetch one again": "tests/config/test_loader.py::test_a_key_that_is_gone_is_told_what_to_write_instead",
    "source/roots.py: give this machine more memory or less to do": SYSTEM,
    "source/roots.py: let the user that runs kbsync read it": SYSTEM,
    "source/roots.py: look at the disk and its kernel log": SYSTEM,
    "source/roots.py: look at the network and the file server": SYSTEM,
    "source/roots.py: mount its file system again": SYSTEM,
    "source/roots.py: raise the limit of open files (ulimit -n, LimitNOFILE=)": SYSTEM,
    "source/roots.py: raise the system's limit of open files (fs.file-max)": SYSTEM,
    "source/read.py: ; free space there or move state_dir": "tests/source/test_read.py::test_a_full_disk_is_told_with_the_folder_and_a_cure",
    "state/db.py: check its owner and mode": CLOSED,
    "state/db.py: no free inode is left there (df -i); free some, the work goes on by itself": CLOSED,
    "state/db.py: too many open files; raise the limit of open files (ulimit -n, LimitNOFILE=)": CLOSED,
    "index/sqlite/vectors.py: set embedding.dimensions in the config: documents are then indexed again": DISK,
    "targets/services/clients.py: correct embedding.dimensions or embedding.model in the config": VECTORS,
    "targets/services/clients.py: correct embedding.model, embedding.dimensions or embedding.type in the config": VECTORS,
    "targets/services/clients.py: correct {}.base_url (it is what comes before {}) or {}.model": VECTORS,
    "targets/services/clients.py: put a valid {}.api_key (or api_key_file) into the config": VECTORS,
    "targets/services/clients.py: put an embedding.api_key that may use the model into the config": VECTORS,
    "targets/services/clients.py: top up the account behind {}.api_key": VECTORS,
    "server/listener.py: cannot be listened on ({}); choose another": ADDRESS,
    "server/listener.py: may not be used by this user; choose a port from 1024 on": ADDRESS,
    "server/static/page.html: kbsync status": f"{IN_WORDS}test_who_sees_the_page_without_its_script_is_told_which_options_to_add",
}
"""What no command can do: the test that shows that the words name the key, the file or the place."""
