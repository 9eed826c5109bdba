import { readLink, withoutLink, writeLink } from '../link';

const URL = 'https://hub.example/user/ada/lab?reset';

describe('a link that asks for a kernel', () => {
  it('is read as it was written', () => {
    const gpu = { kind: 'nvidia.com/gpu', count: 2 };
    const resources = { cpu: '500m', memory: '4Gi', gpu };
    const link = writeLink(URL, { template: 'py', resources });
    expect(link).toContain('reset');
    const query = link.slice(link.indexOf('?'));
    expect(readLink(query)).toEqual({ template: 'py', resources });
  });

  it('says as well that no GPU is wanted', () => {
    const resources = { cpu: '1', memory: '1Gi', gpu: null };
    const link = writeLink(URL, { template: 'py', resources });
    expect(readLink(link.slice(link.indexOf('?')))).toEqual({
      template: 'py',
      resources
    });
  });

  it('asks for no more than it says', () => {
    expect(readLink('?elastic=py')).toEqual({ template: 'py', resources: {} });
    expect(readLink('?elastic=py&elastic-gpu=many')).toEqual({
      template: 'py',
      resources: {}
    });
    expect(readLink('?elastic-memory=4Gi&reset')).toBeNull();
  });

  it('is taken out of an address without touching the rest of it', () => {
    const link = `${URL}&elastic=py&elastic-cpu=2#here`;
    expect(withoutLink(link)).toBe(`${URL}=#here`);
  });
});
