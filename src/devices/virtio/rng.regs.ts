/** Numbers of the virtio entropy device. Source: VirtIO 1.2 § 5.4. */

export const DEVICE_TYPE = 4;
/** Most bytes given for one request, as Firecracker has it. */
export const REQUEST_BYTES = 65536;
