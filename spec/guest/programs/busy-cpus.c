// busy-cpus [MS]: keeps every CPU of the guest busy at the same time, and proves it.
//
// One thread pinned to each CPU; all meet at a barrier, then compute for MS milliseconds (1000). A
// round mixes integer and floating-point work whose result is known beforehand, so that a register
// or FPU state lost on an exit shows as a wrong sum. Prints a line per CPU and then one PASS or
// FAIL line: each thread stayed on its CPU, got a tenth of the time or more (a guest that knows of
// stolen time counts it, and the host may have fewer CPUs than the guest), never computed a wrong
// sum, and there was a span, at least half of MS, in which all of them ran.

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CPU_COUNT_MAX 256
#define ROUND_STEPS 20000

struct worker {
  pthread_t thread;
  int cpu;
  int64_t start_ns, end_ns, busy_ns;
  uint64_t rounds, wrong_sums, migrations;
};

static pthread_barrier_t barrier;
static int64_t limit_ns;
static uint64_t expected_sum;

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t round_sum(void) {
  uint64_t x = 0x9e3779b97f4a7c15u;
  double y = 1.0;
  for (int i = 0; i < ROUND_STEPS; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    y = y * 0.999 + (double)(x & 0xff);
  }
  return x + (uint64_t)(y * 1000.0);
}

static void* work(void* argument) {
  struct worker* w = argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(w->cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) w->migrations++;
  pthread_barrier_wait(&barrier);
  w->start_ns = now_ns(CLOCK_MONOTONIC);
  int64_t busy_before_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
  do {
    if (round_sum() != expected_sum) w->wrong_sums++;
    if (sched_getcpu() != w->cpu) w->migrations++;
    w->rounds++;
    w->end_ns = now_ns(CLOCK_MONOTONIC);
  } while (w->end_ns - w->start_ns < limit_ns);
  w->busy_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - busy_before_ns;
  return NULL;
}

int main(int argc, char** argv) {
  static struct worker workers[CPU_COUNT_MAX];
  limit_ns = (argc > 1 ? atoll(argv[1]) : 1000) * 1000000;
  expected_sum = round_sum();
  cpu_set_t online;
  int count = 0;
  if (limit_ns <= 0 || sched_getaffinity(0, sizeof online, &online) != 0) return 2;
  for (int cpu = 0; cpu < CPU_COUNT_MAX; cpu++) {
    if (CPU_ISSET(cpu, &online)) workers[count++].cpu = cpu;
  }
  pthread_barrier_init(&barrier, NULL, (unsigned)count);
  for (int i = 0; i < count; i++) {
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
      puts("FAIL busy-cpus: no thread");
      return 1;
    }
  }
  int64_t last_start_ns = INT64_MIN, first_end_ns = INT64_MAX;
  int good = 1;
  for (int i = 0; i < count; i++) {
    struct worker* w = &workers[i];
    pthread_join(w->thread, NULL);
    if (w->start_ns > last_start_ns) last_start_ns = w->start_ns;
    if (w->end_ns < first_end_ns) first_end_ns = w->end_ns;
    int64_t span_ns = w->end_ns - w->start_ns;
    if (w->wrong_sums || w->migrations || w->busy_ns * 10 < span_ns) good = 0;
    printf("cpu %d: busy %lld of %lld ms, %llu rounds, %llu wrong, %llu migrations\n", w->cpu,
           (long long)(w->busy_ns / 1000000), (long long)(span_ns / 1000000),
           (unsigned long long)w->rounds, (unsigned long long)w->wrong_sums,
           (unsigned long long)w->migrations);
  }
  int64_t together_ns = first_end_ns - last_start_ns;
  if (together_ns * 2 < limit_ns) good = 0;
  printf("%s busy-cpus: %d CPUs, %lld ms all at once\n", good ? "PASS" : "FAIL", count,
         (long long)(together_ns / 1000000));
  return good ? 0 : 1;
}
