/*
 * PID 1 of the default guest: make the machine usable, run one command, report how it ended, stop
 * the machine.
 *
 * Signals are blocked throughout and taken from a signalfd. Those that ask for something are
 * busybox's: SIGUSR2 poweroff, SIGTERM reboot, SIGUSR1 halt; SIGINT is the kernel's Ctrl-Alt-Delete
 * and means reboot.
 */
#include "init.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_MS = 500, SIGNAL_STATUS = 128, START_FAILED = 126 };

static uint8_t status_of(int wait_status) {
  return (uint8_t)(WIFSIGNALED(wait_status) ? SIGNAL_STATUS + WTERMSIG(wait_status)
                                            : WEXITSTATUS(wait_status));
}

/* Reaps whoever ended; false when there is no child left. */
static bool reap(struct outcome* outcome) {
  int wait_status;
  pid_t child;
  while ((child = waitpid(-1, &wait_status, WNOHANG)) > 0) {
    if (child != outcome->command) continue;
    outcome->ended = true;
    outcome->status = status_of(wait_status);
  }
  return child == 0;
}

bool take_signals(int signals, struct outcome* outcome) {
  struct signalfd_siginfo taken;
  while (read(signals, &taken, sizeof taken) == (ssize_t)sizeof taken) {
    switch (taken.ssi_signo) {
    case SIGUSR2:
      outcome->request = RB_POWER_OFF;
      break;
    case SIGUSR1:
      outcome->request = RB_HALT_SYSTEM;
      break;
    case SIGTERM:
    case SIGINT:
      outcome->request = RB_AUTOBOOT;
      break;
    default:
      reap(outcome);
      break;
    }
  }
  return outcome->ended || outcome->request != 0;
}

static int open_signals(void) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void wait_on_console(int signals, struct outcome* outcome) {
  struct pollfd polled = {.fd = signals, .events = POLLIN};
  do {
    poll(&polled, 1, -1);
  } while (!take_signals(signals, outcome));
}

/* SIGTERM, a grace that ends as soon as nobody is left, SIGKILL. */
static void end_processes(int signals, struct outcome* outcome) {
  struct timespec start, now;
  if (!reap(outcome)) return;
  kill(-1, SIGTERM);
  kill(-1, SIGCONT);
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (now = start; reap(outcome); clock_gettime(CLOCK_MONOTONIC, &now)) {
    long passed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    if (passed >= GRACE_MS) break;
    struct pollfd polled = {.fd = signals, .events = POLLIN};
    if (poll(&polled, 1, (int)(GRACE_MS - passed)) > 0) take_signals(signals, outcome);
  }
  kill(-1, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0)
    continue;
}

/* With ACPI the kernel can power off; without it reboot(2) would only halt, and the monitor does it
 * for us. */
static void stop_machine(int request) {
  if (request == RB_POWER_OFF && access("/sys/firmware/acpi", F_OK) < 0) report_power_off();
  reboot(request);
  for (;;)
    pause();
}

int main(void) {
  static struct options options;
  struct streams streams;
  struct outcome outcome = {.command = -1};

  report_open();
  report_boot();
  int signals = open_signals();
  reboot(RB_DISABLE_CAD);
  mount_file_systems();
  read_options(&options);
  environ = options.envp;
  sethostname(options.hostname, strlen(options.hostname));
  seed_random();
  start_network();
  start_agent();

  if (options.stdio != STDIO_CONSOLE) open_frames();
  outcome.command = start_command(&options, &streams);
  if (outcome.command < 0) {
    outcome.ended = true;
    outcome.status = START_FAILED;
  } else if (options.stdio == STDIO_CONSOLE) {
    wait_on_console(signals, &outcome);
  } else {
    carry_frames(&options, &streams, signals, &outcome);
  }

  if (outcome.ended) report_status(outcome.status);
  end_processes(signals, &outcome);
  unmount_file_systems();
  stop_machine(outcome.request ? outcome.request : RB_POWER_OFF);
}
