import { toastText } from '../notifier';
import { kernelTitle, notebookOf } from '../titles';
import { makeKernel } from './fakes';

const UUID = '0f8fad5b-d9cb-469f-a165-70867728950e';

describe('kernelTitle', () => {
  it('is the notebook once its session has the path', () => {
    const sessions = [{ id: 's', path: 'work/a.ipynb', name: '', type: 'notebook' }];
    expect(kernelTitle(makeKernel({ path: '', sessions }))).toBe('a.ipynb');
  });

  it('is the name of a session whose path Lab has made up', () => {
    const path = `work/${UUID}`;
    const sessions = [{ id: 's', path, name: 'a.ipynb', type: 'notebook' }];
    const kernel = makeKernel({ path, sessions });
    expect(kernelTitle(kernel)).toBe('a.ipynb');
    expect(notebookOf(kernel)).toBe('');
  });

  it('tells kernels without any name apart by the beginning of their id', () => {
    const kernel = makeKernel({ kernel_id: UUID, path: '' });
    expect(kernelTitle(kernel)).toBe('Python, pooled (0f8fad5b)');
    expect(kernelTitle({ ...kernel, name: 'train' })).toBe('train');
  });
});

describe('toastText', () => {
  it('leaves out the sentences that would be cut', () => {
    const first =
      'It needed more than 1.5 GiB: the limit was 1.5 GiB, the peak 1.5 GiB.';
    const text = toastText('a.ipynb', `${first} ${'More. '.repeat(40)}`);
    expect(text.startsWith(`a.ipynb: ${first} More.`)).toBe(true);
    expect(text.endsWith('More.')).toBe(true);
    expect(text.length).toBeLessThanOrEqual(140);
  });

  it('shortens a long title in the middle, where it tells least', () => {
    const text = toastText(`first-${'x'.repeat(300)}-last.ipynb`, 'y'.repeat(300));
    expect(text).toMatch(/^first-x+…x*-last\.ipynb: y+…y+$/);
    expect(text.length).toBe(140);
  });
});
