/* Order statistics of the samples: heap sort in place, so that every percentile is an exact sample.
 */
#include "guest.h"

static void sift(uint32_t* ticks, uint32_t root, uint32_t count) {
  uint32_t value = ticks[root];
  for (;;) {
    uint32_t child = 2 * root + 1;
    if (child >= count) break;
    if (child + 1 < count && ticks[child + 1] > ticks[child]) child++;
    if (ticks[child] <= value) break;
    ticks[root] = ticks[child];
    root = child;
  }
  ticks[root] = value;
}

static uint32_t kept(const struct samples* samples) {
  return samples->count < SAMPLES_MAX ? samples->count : SAMPLES_MAX;
}

static void sort(struct samples* samples) {
  uint32_t* ticks = samples->ticks;
  for (uint32_t i = kept(samples) / 2; i > 0; i--)
    sift(ticks, i - 1, kept(samples));
  for (uint32_t end = kept(samples); end > 1; end--) {
    uint32_t largest = ticks[0];
    ticks[0] = ticks[end - 1];
    ticks[end - 1] = largest;
    sift(ticks, 0, end - 1);
  }
}

void summarise(void) {
  sort(&first);
  sort(&second);
}

static void print_field(const char* name, uint64_t value) {
  print(",\"");
  print(name);
  print("\":");
  print_number(value);
}

void print_flow(void) {
  print_field("operations", flow.operations);
  print_field("bytes", flow.bytes);
  print_field("elapsed", flow.ticks);
}

void print_samples(const char* name, const struct samples* samples) {
  uint32_t last = kept(samples) - 1;
  print(",\"");
  print(name);
  print("\":{\"n\":");
  print_number(samples->count);
  print_field("min", samples->ticks[0]);
  print_field("p50", samples->ticks[last / 2]);
  print_field("p90", samples->ticks[last * 9 / 10]);
  print_field("p99", samples->ticks[last * 99 / 100]);
  print_field("max", samples->ticks[last]);
  print_field("total", samples->total);
  print("}");
}
