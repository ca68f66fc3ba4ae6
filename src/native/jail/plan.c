/* The words of a plan, as src/jail/plan.ts writes them. */
#include "jail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void refuse(const char* what, const char* word) {
  fprintf(stderr, "estalo-jail: %s: %s\n", what, word == NULL ? "nothing" : word);
  exit(2);
}

static const char* next(char*** words) {
  if (**words == NULL) refuse("a word lacks its value", NULL);
  return *(*words)++;
}

static long long number(char*** words) {
  const char* text = next(words);
  char* end;
  long long value = strtoll(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < 0) refuse("not a number", text);
  return value;
}

static int take_place(int* count, const char* what) {
  /* One is left for the null pointer that ends an environment. */
  if (*count >= JAIL_LIST_MAX - 1) refuse("too many", what);
  return (*count)++;
}

static void read_bind(char*** words, struct jail_plan* plan, const char* kind) {
  struct jail_bind* bind = &plan->binds[take_place(&plan->bind_count, kind)];
  bind->is_device = strcmp(kind, "bind-device") == 0;
  bind->is_executable = strcmp(kind, "bind-executable") == 0;
  bind->source = next(words);
  bind->target = next(words);
}

static void read_device(char*** words, struct jail_plan* plan, bool is_needed) {
  struct jail_device* device = &plan->devices[take_place(&plan->device_count, "devices")];
  device->path = next(words);
  device->major = (unsigned int)number(words);
  device->minor = (unsigned int)number(words);
  device->is_needed = is_needed;
}

static void read_setting(char*** words, struct jail_plan* plan) {
  struct jail_setting* setting = &plan->settings[take_place(&plan->setting_count, "settings")];
  setting->file = next(words);
  setting->value = next(words);
}

static bool read_switch(const char* word, struct jail_plan* plan) {
  const struct {
    const char* name;
    bool* value;
  } switches[] = {
      {"rootless", &plan->is_rootless},
      {"empty-network", &plan->has_empty_network},
      {"new-pid-ns", &plan->has_pid_namespace},
      {"daemonize", &plan->is_daemon},
      {"attached", &plan->is_attached},
      {"clean", &plan->cleans},
      {"kill", &plan->kills},
  };
  for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
    if (strcmp(word, switches[i].name) != 0) continue;
    *switches[i].value = true;
    return true;
  }
  return false;
}

static bool read_value(const char* word, char*** words, struct jail_plan* plan) {
  if (strcmp(word, "folder") == 0)
    plan->folder = next(words);
  else if (strcmp(word, "record") == 0)
    plan->record = next(words);
  else if (strcmp(word, "host-name") == 0)
    plan->host_name = next(words);
  else if (strcmp(word, "uid") == 0)
    plan->uid = (uid_t)number(words);
  else if (strcmp(word, "gid") == 0)
    plan->gid = (gid_t)number(words);
  else if (strcmp(word, "netns") == 0)
    plan->netns = next(words);
  else if (strcmp(word, "fsize") == 0)
    plan->fsize = number(words);
  else if (strcmp(word, "no-file") == 0)
    plan->no_file = number(words);
  else if (strcmp(word, "pid-file") == 0)
    plan->pid_file = next(words);
  else if (strcmp(word, "join") == 0)
    plan->joins[take_place(&plan->join_count, word)] = next(words);
  else if (strcmp(word, "failure-status") == 0)
    plan->failure_status = (int)number(words);
  else if (strcmp(word, "keep") == 0)
    plan->kept[take_place(&plan->kept_count, word)] = (int)number(words);
  else if (strcmp(word, "cgroup") == 0)
    plan->cgroups[take_place(&plan->cgroup_count, word)] = next(words);
  else
    return false;
  return true;
}

void jail_read_plan(char** words, struct jail_plan* plan) {
  int variables = 0;
  memset(plan, 0, sizeof *plan);
  plan->fsize = -1;
  plan->no_file = -1;
  plan->failure_status = 1;
  while (*words != NULL) {
    const char* word = *words++;
    if (strcmp(word, "--") == 0) {
      plan->command = words;
      break;
    }
    if (strncmp(word, "bind", 4) == 0)
      read_bind(&words, plan, word);
    else if (strcmp(word, "device") == 0)
      read_device(&words, plan, true);
    else if (strcmp(word, "device-if-possible") == 0)
      read_device(&words, plan, false);
    else if (strcmp(word, "cgroup-setting") == 0)
      read_setting(&words, plan);
    else if (strcmp(word, "environment") == 0)
      plan->environment[take_place(&variables, word)] = (char*)next(&words);
    else if (!read_switch(word, plan) && !read_value(word, &words, plan))
      refuse("not a word of a plan", word);
  }
  if (plan->folder == NULL) refuse("no folder", NULL);
}
