/**
 * `metadata.elastic` of a notebook: which template and resources its kernel shall have.
 *
 * The server reads it from the file whenever it starts a kernel for that notebook, whatever the
 * client; here it is only written.
 */
import { JSONExt, JSONObject } from '@lumino/coreutils';
import { IKernel } from './request';
import { METADATA_KEY } from './tokens';

/** The part of a notebook's model that is needed. */
export interface IMetadataModel {
  readonly readOnly?: boolean;
  getMetadata(key: string): unknown;
  setMetadata(key: string, value: unknown): void;
}

/** What a notebook on this kernel should say. */
export function metadataOf(kernel: IKernel): JSONObject {
  const { cpu, memory, gpu } = kernel.resources;
  const resources: JSONObject = { cpu, memory };
  if (gpu?.count) {
    resources.gpu = { kind: gpu.kind, count: gpu.count };
  }
  return { template: kernel.template, resources };
}

/** Keep the kernel's resources in the notebook. Marks it as changed only if they differ. */
export function keepResources(model: IMetadataModel, kernel: IKernel): void {
  const wanted = metadataOf(kernel);
  const present = (model.getMetadata(METADATA_KEY) ?? null) as JSONObject | null;
  if (!model.readOnly && !JSONExt.deepEqual(present, wanted)) {
    model.setMetadata(METADATA_KEY, wanted);
  }
}
