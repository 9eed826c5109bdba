import { IMetadataModel, keepResources, metadataOf } from '../metadata';
import { makeKernel } from './fakes';

const resourcesKernel = makeKernel({
  resources: { cpu: '2', memory: '4Gi', gpu: { kind: 'a100', count: 1 } }
});

/** A notebook's metadata that counts how often it is written. */
class FakeMetadata implements IMetadataModel {
  constructor(readonly readOnly = false) {}

  readonly data: { [key: string]: unknown } = {};
  writes = 0;

  getMetadata(key: string): unknown {
    return this.data[key];
  }

  setMetadata(key: string, value: unknown): void {
    this.writes += 1;
    this.data[key] = value;
  }
}

describe('keepResources', () => {
  it('writes template and resources where the server looks for them', () => {
    const model = new FakeMetadata();
    keepResources(model, resourcesKernel);
    expect(model.data.elastic).toEqual({
      template: 'py',
      resources: { cpu: '2', memory: '4Gi', gpu: { kind: 'a100', count: 1 } }
    });
  });

  it('does not mark a notebook as changed that says so already', () => {
    const model = new FakeMetadata();
    model.data.elastic = metadataOf(resourcesKernel);
    keepResources(model, resourcesKernel);
    expect(model.writes).toBe(0);
  });

  it('leaves a read-only notebook alone', () => {
    const model = new FakeMetadata(true);
    keepResources(model, resourcesKernel);
    expect(model.writes).toBe(0);
  });
});
