/* See virtio.h. */
#include "virtio.h"

#define DEVICE_ID 0x008
#define DEVICE_FEATURES 0x010
#define DEVICE_FEATURES_SEL 0x014
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM_MAX 0x034
#define QUEUE_NUM 0x038
#define QUEUE_READY 0x044
#define QUEUE_NOTIFY 0x050
#define STATUS 0x070
#define QUEUE_DESC 0x080
#define QUEUE_DRIVER 0x090
#define QUEUE_DEVICE 0x0a0
#define FEATURE_VERSION_1_HIGH 1
#define STATUS_DRIVER 3
#define STATUS_FEATURES_OK 11
#define STATUS_DRIVER_OK 15
#define NO_NOTIFY 1

int device_find(struct device* device, uint32_t type) {
  for (uint32_t i = 0; i < job.windows; i++) {
    if (mmio_read(job.window[i].base + DEVICE_ID) != type) continue;
    device->base = job.window[i].base;
    device->irq = job.window[i].irq;
    return 1;
  }
  return 0;
}

void device_negotiate(struct device* device, uint32_t wanted) {
  uint64_t base = device->base;
  for (uint32_t status = 0; status <= STATUS_DRIVER; status = 2 * status + 1)
    mmio_write(base + STATUS, status);
  mmio_write(base + DEVICE_FEATURES_SEL, 0);
  device->features = mmio_read(base + DEVICE_FEATURES) & wanted;
  mmio_write(base + DRIVER_FEATURES_SEL, 0);
  mmio_write(base + DRIVER_FEATURES, device->features);
  mmio_write(base + DRIVER_FEATURES_SEL, 1);
  mmio_write(base + DRIVER_FEATURES, FEATURE_VERSION_1_HIGH);
  mmio_write(base + STATUS, STATUS_FEATURES_OK);
}

static void set_address(uint64_t at, const void* address) {
  mmio_write(at, (uint32_t)(uint64_t)address);
  mmio_write(at + 4, 0);
}

void device_add_queue(struct device* device, struct queue* queue, uint32_t number) {
  uint64_t base = device->base;
  mmio_write(base + QUEUE_SEL, number);
  queue->size = mmio_read(base + QUEUE_NUM_MAX);
  if (queue->size > QUEUE_SIZE) queue->size = QUEUE_SIZE;
  queue->device = base;
  queue->number = number;
  queue->has_event_index = (device->features & FEATURE_EVENT_IDX) != 0;
  mmio_write(base + QUEUE_NUM, queue->size);
  set_address(base + QUEUE_DESC, queue->descriptors);
  set_address(base + QUEUE_DRIVER, &queue->avail);
  set_address(base + QUEUE_DEVICE, &queue->used);
  mmio_write(base + QUEUE_READY, 1);
}

void device_start(struct device* device) {
  mmio_write(device->base + STATUS, STATUS_DRIVER_OK);
}

void queue_ring(struct queue* queue) {
  mmio_write(queue->device + QUEUE_NOTIFY, queue->number);
}

void queue_kick(struct queue* queue) {
  uint16_t before = queue->avail.index;
  uint16_t now = queue->offered;
  if (before == now) return;
  queue_show(queue);
  if (queue->has_event_index) {
    uint16_t event = *(volatile uint16_t*)&queue->used.ring[queue->size].id;
    if ((uint16_t)(now - event - 1) >= (uint16_t)(now - before)) return;
  } else if ((*(volatile uint16_t*)&queue->used.flags & NO_NOTIFY) != 0) {
    return;
  }
  queue_ring(queue);
}

int queue_take(struct queue* queue, uint32_t* id, uint32_t* length) {
  if (__atomic_load_n(&queue->used.index, __ATOMIC_ACQUIRE) == queue->taken) return 0;
  uint32_t at = queue->taken++ % queue->size;
  *id = queue->used.ring[at].id;
  *length = queue->used.ring[at].length;
  /* used_event: an interrupt for the next one, please. */
  *(volatile uint16_t*)&queue->avail.ring[queue->size] = queue->taken;
  return 1;
}
